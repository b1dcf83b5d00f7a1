"""Which ladder has the best accuracy-latency front on a board: what decides a board's default profile.

python experiments/judge_ladders.py
python experiments/judge_ladders.py --boards xu3 --ladders alexnet-group runs/mine
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dyndnn.errors import NetworkError
from dyndnn.ladder import ladder_folder, load_ladder
from dyndnn.param import model_bytes
from experiments._cli import main_guard, parse
from hw.boardfile import board_names, load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.ladderfile import ladder_names
from hw.modelled import model_profile

HELP = """Compare ladders on boards by their accuracy-latency fronts, as Markdown.

A front says how accurate a frame can be within a latency budget: the best of the rungs that make it, each on its
fastest operating point (modelled, one frame, nothing else running). It is worth its hypervolume: the area between it
and the worst corner of all fronts together, accuracy in points, latency in doublings. Rungs that others beat in both
do not move that corner. The latencies of two fronts that are worth the same within 15 % cannot be told apart by the
law they come from, so among those the ladder with the smallest weights is taken.
"""
CIFAR10 = (3, 32, 32)  # its frames; ladders of the zoo for another task, as digits, are not compared
ALIKE = 0.15  # held back, the law's latencies are off by 14 to 22 % on average (42 % on the H2+)

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
    try:
        ladders = args.ladders or cifar10_ladders()
        for ladder in ladders:
            load_ladder(ladder_folder(ladder))
    except NetworkError as error:
        raise InputError(str(error)) from None
    models = {board: load_board(board) for board in args.boards or board_names()}
    fronts_of = {board: [front(model, ladder) for ladder in ladders] for board, model in models.items()}
    rungs_told = "accuracy in % (measured) at its shortest latency in ms (modelled), per rung"
    print(f"| board | ladder | {rungs_told} | hypervolume | weights |")
    print("|---|---|---|---|---|")
    for board, fronts in fronts_of.items():
        worth = hypervolumes(fronts)
        best = choice(ladders, worth)
        for ladder, rungs, volume in zip(ladders, fronts, worth, strict=True):
            text = ", ".join(f"{100 * accuracy:.1f} at {1e3 * latency_s:.3g}" for latency_s, accuracy in rungs)
            name = f"**`{ladder}`**" if ladder == best else f"`{ladder}`"
            print(f"| {board} | {name} | {text} | {volume:.1f} | {weight_bytes(ladder) / 1e6:.2f} MB |")


def cifar10_ladders() -> tuple[str, ...]:
    """Ladders of the zoo whose frames are CIFAR-10's; NetworkError where one cannot be read."""
    return tuple(name for name in ladder_names() if load_ladder(ladder_folder(name)).input.shape == CIFAR10)


def weight_bytes(ladder: str) -> int:
    """Bytes of a ladder's weights, all rungs, in single precision."""
    return model_bytes(ladder_folder(ladder))


def front(model: BoardModel, ladder: str) -> Front:
    """Per rung its shortest latency (s) over the board's operating points, and its accuracy.

    Raises what `hw.modelled.model_profile` does.
    """
    profile = model_profile(ladder, model)
    return tuple(
        (min(p.latency_mean_s for p in profile.points if p.rung == rung.index), rung.accuracy) for rung in profile.rungs
    )


def useful(rungs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other beats in both, by rising latency (s); none of two alike is beaten."""
    kept: list[tuple[float, float]] = []
    for latency_s, accuracy in sorted(set(rungs), key=lambda rung: (rung[0], -rung[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((latency_s, accuracy))
    return kept


def hypervolumes(fronts: Sequence[Front]) -> list[float]:
    """Hypervolume of each front, in points of accuracy times doublings of latency, from the worst corner of all."""
    together = useful([rung for rungs in fronts for rung in rungs])
    slowest_s, least = together[-1][0], together[0][1]
    found = []
    for rungs in fronts:
        own = [rung for rung in useful(rungs) if rung[0] <= slowest_s]
        ends = [latency_s for latency_s, _ in own[1:]] + [slowest_s]
        areas = [
            100 * max(0.0, accuracy - least) * math.log2(end_s / latency_s)
            for (latency_s, accuracy), end_s in zip(own, ends, strict=bool(own))
        ]
        found.append(sum(areas))
    return found


def choice(ladders: Sequence[str], worth: Sequence[float]) -> str:
    """The ladder to take, by the hypervolumes of their fronts."""
    alike = [ladder for ladder, volume in zip(ladders, worth, strict=True) if volume >= (1 - ALIKE) * max(worth)]
    return min(alike, key=weight_bytes)


if __name__ == "__main__":
    main_guard(main)
