"""What `gymnasium.make` and `make_vec` call: a task by the name of its board (the names are in `envs.plugin`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.actions import ActionView
from envs.control import ControlEnv
from envs.scenario import Scenario
from envs.task import open_task
from envs.vector import BoardVectorEnv
from hw.simulated.board import SimBoard


def make_control_env(
    board: str,
    *,
    profile: str | Path | None = None,
    family: str = "train",
    scenarios: Sequence[str | Path | Scenario] | None = None,
    action_view: ActionView = "multi",
    vary: bool | None = None,
    **options: Any,
) -> ControlEnv:
    """One simulated board; `vary` as in `open_task`, `options` go to ControlEnv."""
    task = open_task(board, profile=profile, family=family, scenarios=scenarios, vary=vary)
    simulated = SimBoard(task.model, task.profile, vary=task.vary)
    return ControlEnv(simulated, task.profile, task.scenarios, action_view=action_view, **options)


def make_vector_env(
    board: str,
    num_envs: int = 1,
    *,
    profile: str | Path | None = None,
    family: str = "train",
    scenarios: Sequence[str | Path | Scenario] | None = None,
    action_view: ActionView = "multi",
    vary: bool | None = None,
    **options: Any,
) -> BoardVectorEnv:
    """`num_envs` simulated boards at once; `vary` as in `open_task`, `options` go to BoardVectorEnv."""
    task = open_task(board, profile=profile, family=family, scenarios=scenarios, vary=vary)
    return BoardVectorEnv(task, num_envs, action_view=action_view, **options)
