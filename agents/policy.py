"""What a controller is: telemetry and demand in, knobs out; and the registry of their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agents.baselines.cpufreq import RULES
from agents.baselines.devfreq import GPU_RULES
from agents.own import own_file, own_policy
from hw.errors import InputError
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

if TYPE_CHECKING:
    from envs.reward import RewardWeights
    from envs.scenario import Scenario
    from hw.simulated.board import SimBoard

GOVERNOR_NAMES = tuple(RULES)
GPU_GOVERNOR_NAMES = tuple(GPU_RULES)  # of a GPU's clock, the network there; schedutil on the CPUs
OTHER_NAMES = ("ladder", "static_safe", "static_best", "oracle")


class Policy(Protocol):
    """A controller of a board; it never sees the load, only what the load does to telemetry."""

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight on this board with this ladder."""
        ...

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """The knobs for the next interval, given the last telemetry and what is demanded next."""
        ...


@runtime_checkable
class Privileged(Protocol):
    """A bound, not a controller: it is shown what no controller may see. Test with `isinstance`."""

    def bind(self, board: SimBoard, scenario: Scenario, weights: RewardWeights) -> None:
        """Show the board that will be flown, the whole scenario and how it is judged; before `control()`."""
        ...


def policy_names(n_rungs: int = 4, spec: BoardSpec | None = None) -> list[str]:
    """Every default controller for a ladder of `n_rungs`: governors at each rung and `@auto`, the rest.

    Governors of a GPU are among them where the board has one.
    """
    rungs = [*(str(k) for k in range(1, n_rungs + 1)), "auto"]
    governors = GOVERNOR_NAMES + GPU_GOVERNOR_NAMES if spec is not None and spec.gpu else GOVERNOR_NAMES
    return [f"{g}@{k}" for g in governors for k in rungs] + list(OTHER_NAMES)


def policy_file(name: str) -> str | None:
    """The file in a controller's name, a saved policy or a class of one's own; None where it is one of ours."""
    return name if name.endswith(".npz") else own_file(name)


def make_policy(name: str) -> Policy:
    """A fresh policy by its name, from a saved one (`NAME.npz`), or of a class of one's own (`FILE.py:CLASS`).

    `governor@k` is accepted for any k >= 1: how long the ladder is shows at `reset`.

    Raises:
        InputError: no such controller (the text lists them), or the file is no policy.
    """
    if own_file(name) is not None:
        own: Policy = own_policy(name)
        return own
    if name.endswith(".npz"):
        from agents.saved import SavedPolicy

        return SavedPolicy.load(Path(name))
    governor, at, rung = name.partition("@")
    if at and governor in GOVERNOR_NAMES + GPU_GOVERNOR_NAMES and (rung == "auto" or _is_rung(rung)):
        from agents.baselines.governors import Governor

        fixed = None if rung == "auto" else int(rung)
        if governor in GPU_RULES:
            return Governor(governor, RULES["schedutil"], fixed, gpu_rule=GPU_RULES[governor])
        return Governor(governor, RULES[governor], fixed)
    if name == "ladder":
        from agents.baselines.heuristics import Ladder

        return Ladder()
    if name in OTHER_NAMES:
        from agents.baselines.bounds import Oracle, StaticBest, StaticSafe

        bounds: dict[str, type[Policy]] = {
            "static_safe": StaticSafe,
            "static_best": StaticBest,
            "oracle": Oracle,
        }
        return bounds[name]()
    known = [f"{g}@RUNG" for g in GOVERNOR_NAMES + GPU_GOVERNOR_NAMES] + list(OTHER_NAMES)
    raise InputError.at(
        "controller",
        "no such controller",
        value=name,
        want=f"known: {', '.join(known)} (RUNG: 1, 2, ... or auto), a saved policy FILE.npz, or FILE.py:CLASS",
    )


def _is_rung(text: str) -> bool:
    return text.isascii() and text.isdigit() and not text.startswith("0")
