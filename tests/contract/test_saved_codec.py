"""The codec in a policy file sees and says what the one that was trained did, or is refused in one line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.policy import make_policy
from agents.runtime import control
from agents.saved import SavedPolicy
from envs.actions import ActionView
from envs.codec import Codec
from envs.families import scenario_set
from hw.catalog import open_board
from hw.errors import InputError
from hw.types import Demand, Telemetry
from tests.untrained import untrained_policy

INTERVALS = 20


@pytest.mark.parametrize("board", ["xu3", "jetson_nano"])
@pytest.mark.parametrize("view", ["multi", "flat"])
def test_it_is_the_same_again(board: str, view: ActionView) -> None:
    """Observations, legal actions and their knobs, after a trip through the file's text."""
    opened = open_board(board)
    spec, profile = opened.spec, opened.profile
    codec = Codec(spec, profile, view)
    again = Codec.from_json(json.loads(json.dumps(codec.to_json())), spec)
    assert again.to_json() == codec.to_json() and again.nvec == codec.nvec
    seen: list[tuple[Telemetry, Demand]] = []
    scenario = scenario_set("held_out", spec, profile, 1)[0]

    def hear(k: int, demand: Demand, telemetry: Telemetry) -> None:
        seen.append((telemetry, demand))

    control(opened, make_policy("ladder"), scenario, profile, seed=0, on_interval=hear)
    for telemetry, demand in seen[:INTERVALS]:
        np.testing.assert_array_equal(again.observe(telemetry, demand), codec.observe(telemetry, demand))
        np.testing.assert_array_equal(again.action_masks(demand), codec.action_masks(demand))
    rng = np.random.default_rng(0)
    for _ in range(INTERVALS):
        action = rng.integers(codec.nvec) if view == "multi" else int(rng.integers(codec.nvec[0]))
        assert again.knobs(action) == codec.knobs(action)


def one(key: str, value: object, at: int = 7) -> dict[str, Any]:
    """A list of the codec with one number changed; its own are put in by the test."""
    return {key: lambda found: [*found[:at], value, *found[at + 1 :]]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (one("latency_s", math.nan), "every number must be finite and not negative"),
        (one("latency_s", math.inf), "every number must be finite and not negative"),
        (one("latency_s", -0.01), "every number must be finite and not negative"),
        (one("latency_s", "0.01"), "every number must be finite and not negative"),
        (one("latency_s", None), "every number must be finite and not negative"),
        (one("latency_s", [0.01]), "every number must be finite and not negative"),
        (one("accuracy", math.nan, at=1), "every number must be finite and not negative"),
        (one("latency_s", 10**400), "too large"),
        (one("latency_s", 0.0), "needs 512 positive latencies, one for each operating point"),
        ({"latency_s": lambda found: found[1:]}, "needs 512 positive latencies, one for each operating point"),
        ({"latency_s": lambda found: [*found, 0.01]}, "needs 512 positive latencies, one for each operating point"),
        ({"accuracy": lambda found: found[1:]}, "needs 384 positive latencies, one for each operating point"),
        ({"latency_s": lambda _: "many"}, "latency_s must be a list of numbers"),
        ({"latency_s": lambda _: None}, "latency_s must be a list of numbers"),
        ({"accuracy": lambda _: []}, "accuracy must be a list of numbers"),
        ({"frame_s": lambda _: "quick"}, "every number must be finite and not negative"),
        ({"frame_s": lambda _: 0.0}, "frame_s and frame_j must be above 0"),
        ({"frame_j": lambda _: 0}, "frame_s and frame_j must be above 0"),
        ({"action_view": lambda _: "sideways"}, "action_view 'sideways'; known: multi, flat"),
        ({"action_view": lambda _: ["multi"]}, r"action_view \['multi'\]; known: multi, flat"),
        ({"board_hash": lambda _: "0" * 64}, "made for board 'xu3' of another layout, not for 'xu3'"),
        ({"surprise": lambda _: 1}, "needs exactly the keys action_view, board,"),
    ],
)
def test_what_is_no_codec_is_one_line(changes: dict[str, Any], text: str) -> None:
    board = open_board("xu3")
    policy = untrained_policy(board.spec, board.profile)
    codec = policy.header.codec
    changed = {**codec, **{key: change(codec.get(key)) for key, change in changes.items()}}
    with pytest.raises(InputError, match=f"header: .*{text}") as caught:
        SavedPolicy(replace(policy.header, codec=changed), policy.layers).reset(board.spec, board.profile)
    assert "\n" not in str(caught.value)
