"""What a task is made of, from names: board file, profile, scenarios; shared by every face of the environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.families import scenario_set
from envs.scenario import Scenario, check_scenario, load_scenario
from hw.boardmodel import BoardModel
from hw.catalog import find_model
from hw.profile import open_profile
from hw.types import BoardSpec, Profile

BANK = {"train": 512, "shifted": 64, "held_out": 8}  # scenarios of a family, drawn once from seed 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A board, a profile and the scenarios to control it in."""

    model: BoardModel
    profile: Profile
    scenarios: tuple[Scenario, ...]
    vary: bool = False
    """every episode has another board of the model"""


def open_task(
    board: str | Path,
    *,
    profile: str | Path | Profile | None = None,
    family: str = "train",
    scenarios: Sequence[str | Path | Scenario] | None = None,
    vary: bool | None = None,
) -> Task:
    """The task of a board: scenarios given, as files or made, or those of a family.

    `vary`: whether every episode has another board of the model; None: where one learns, in the family "train".
    Raises InputError for an unknown board, profile or family, and for a scenario that cannot be one.
    """
    model = find_model(board, profile)
    chosen = profile if isinstance(profile, Profile) else open_profile(model, profile)
    if scenarios:
        given = tuple(_scenario(s, model.spec) for s in scenarios)
    else:
        given = tuple(scenario_set(family, model.spec, chosen, BANK.get(family, 8)))
    return Task(
        model=model,
        profile=chosen,
        scenarios=given,
        vary=family == "train" and not scenarios if vary is None else vary,
    )


def _scenario(given: str | Path | Scenario, spec: BoardSpec) -> Scenario:
    if not isinstance(given, Scenario):
        return load_scenario(given, spec)
    check_scenario(given, spec)
    return given
