"""A policy that nobody trained: what it chooses hangs on every figure of the telemetry."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from agents.policy_file import Header
from agents.saved import SavedPolicy
from envs.actions import ActionView
from envs.codec import Codec
from hw.types import BoardSpec, Profile


def untrained_policy(
    spec: BoardSpec, profile: Profile, *, view: ActionView = "multi", activation: str = "tanh", seed: int = 3
) -> SavedPolicy:
    """Random weights for a board and a ladder."""
    codec, rng = Codec(spec, profile, view), np.random.default_rng(seed)
    sizes = [codec.observation_size, 24, 16, sum(codec.nvec)]
    header = Header(
        board=spec.name,
        board_hash=spec.hash,
        profile=profile.name,
        profile_checksum=profile.checksum,
        algo="ppo",
        activation=activation,
        sizes=sizes,
        nvec=list(codec.nvec),
        masked=True,
        codec=codec.to_json(),
    )
    layers = [
        (rng.normal(size=(o, i)).astype(np.float32), rng.normal(size=o).astype(np.float32)) for i, o in pairwise(sizes)
    ]
    return SavedPolicy(header, layers)
