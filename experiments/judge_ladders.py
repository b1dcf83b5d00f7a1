"""Which ladder has the best accuracy-latency front on a board: what decides a board's default profile.

python experiments/judge_ladders.py
python experiments/judge_ladders.py --boards xu3 --ladders alexnet-group runs/mine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyndnn.ladder import ladder_folder, load_ladder
from experiments._cli import main_guard, parse
from hw.boardfile import BoardModel, board_names, load_board
from hw.errors import InputError
from hw.ladderfile import ladder_names
from hw.profile import open_profile

HELP = """Compare ladders on boards by their accuracy-latency fronts, as Markdown.

A front says how accurate a frame can be within a latency budget: the best of the rungs that make it, each on its
fastest operating point (modelled, one frame, nothing else running). The score of a ladder is the mean of that over
budgets in equal ratios, from the shortest that every ladder compared can meet to the longest that any of them needs.
"""
CIFAR10 = (3, 32, 32)  # its frames; ladders of the zoo for another task, as digits, are not compared
BUDGETS = 1000

Front = tuple[tuple[float, float], ...]  # (latency in s, accuracy) per rung, smallest first


@dataclass(frozen=True, kw_only=True)
class Args:
    """The command line."""

    boards: tuple[str, ...] = ()
    """boards by name (default: all that ship)"""
    ladders: tuple[str, ...] = ()
    """ladders of one task: names of the zoo or folders (default: those of the zoo for CIFAR-10)"""


def main() -> None:
    """Run the command."""
    args = parse(Args, HELP)
    ladders = args.ladders or cifar10_ladders()
    print("| board | ladder | accuracy in % at its shortest latency in ms, per rung | mean accuracy within a budget |")
    print("|---|---|---|---|")
    for board in args.boards or board_names():
        fronts = {ladder: front(load_board(board), ladder) for ladder in ladders}
        found = scores(list(fronts.values()))
        for (ladder, rungs), score in zip(fronts.items(), found, strict=True):
            text = ", ".join(f"{100 * accuracy:.1f} at {1e3 * latency_s:.3g}" for latency_s, accuracy in rungs)
            best = "**" if score == max(found) else ""
            print(f"| {board} | `{ladder}` | {text} | {best}{100 * score:.1f} %{best} |")


def cifar10_ladders() -> tuple[str, ...]:
    """Ladders of the zoo whose frames are CIFAR-10's; NetworkError where one cannot be read."""
    return tuple(name for name in ladder_names() if load_ladder(ladder_folder(name)).input.shape == CIFAR10)


def front(model: BoardModel, ladder: str) -> Front:
    """Per rung its shortest latency (s) over the board's operating points, and its accuracy.

    Raises what `hw.profile.open_profile` does.
    """
    profile = open_profile(model, ladder)
    return tuple(
        (min(p.latency_mean_s for p in profile.points if p.rung == rung.index), rung.accuracy) for rung in profile.rungs
    )


def scores(fronts: Sequence[Front]) -> list[float]:
    """Mean accuracy of each front over latency budgets in equal ratios; InputError where there is no range of them."""
    low = max(min(latency_s for latency_s, _ in rungs) for rungs in fronts)
    high = max(latency_s for rungs in fronts for latency_s, _ in rungs)
    if not low < high:
        raise InputError("these ladders leave no range of latencies to compare them in; compare ladders of one task")
    budgets = np.geomspace(low, high, BUDGETS)
    return [
        float(np.mean([max(accuracy for latency_s, accuracy in rungs if latency_s <= budget) for budget in budgets]))
        for rungs in fronts
    ]


if __name__ == "__main__":
    main_guard(main)
