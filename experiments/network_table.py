"""Numbers on which docs/NETWORKS.md leans, as Markdown: every ladder's rungs, and its speed in ratios of one run.

python experiments/network_table.py
python experiments/network_table.py --ladders alexnet-paper runs/mine
python experiments/network_table.py --alone runs/mine-1 runs/mine-2     # rungs trained by themselves, to compare with
python experiments/network_table.py --random

Accuracy and confidence, measured on the exported model, MACs and bytes of a rung are read from `ladder.json`; times and
memory are measured here, in half a minute per ladder. What is compared takes turns, so a busy machine slows both sides;
its milliseconds still suffer.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dyndnn.costs import FLOAT_BYTES, weight_count
from dyndnn.errors import NetworkError
from dyndnn.evaluate import export_ladder
from dyndnn.ladder import LADDER_FILE, ZOO, Ladder, ladder_folder
from dyndnn.netconfig import NetConfig
from dyndnn.netconfig import alone as network_alone
from dyndnn.nets import DynamicNet
from dyndnn.network import Network
from dyndnn.param import model_bytes
from dyndnn.record import TRAINING, read_record, recorded_network
from dyndnn.speed import (
    beside_torch_s,
    latencies_s,
    resident_bytes,
    rung_bytes,
    switch_ratio,
    upgrade_ratios,
)
from experiments._cli import main_guard, parse
from hw.errors import InputError

FULL = (64, 192, 384, 256, 256)  # of the papers' layout
QUARTERS = (1, 2, 3, 4)
BACK_TO_BACK_VISITS = 60
Alone = tuple[NetConfig, float]  # a rung that was trained by itself, and its accuracy


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to measure."""

    ladders: tuple[str, ...] = ()
    """ladder folders or names of the zoo (default: the whole zoo)"""
    alone: tuple[Path, ...] = ()
    """run folders of train_dnn.py --scheme alone: their accuracies stand beside those of the same rungs"""
    random: bool = False
    """measure the papers' layout in every connectivity with random weights instead, which says nothing of accuracy
    and everything of speed"""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One ladder, measured in one run with one thread."""

    ladder: Ladder
    config: NetConfig
    latencies_s: list[float]
    beside_torch: list[float]  # torch's time / ours, per rung
    switch: float  # first frame after one / later ones, on a camera's clock
    switch_back_to_back: float
    upgrade: list[float]  # to the next rung / what that one costs more
    model_bytes: int  # all rungs, each weight once
    separate_bytes: int  # all rungs as networks of their own
    nested_bytes: int  # a nested network of the same channels
    resident_bytes: int  # by which a process grows


def main() -> int:
    """Run the command."""
    args = parse(Args, "Measure ladders and print a row per rung and a row per ladder, as Markdown.")
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="powerband-table-") as work:
            names = args.ladders or tuple(sorted(p.parent.name for p in ZOO.glob(f"*/{LADDER_FILE}")))
            folders = random_ladders(Path(work)) if args.random else [ladder_folder(name) for name in names]
            alone = [alone_accuracy(folder) for folder in args.alone]
            print(f"measuring {', '.join(folder.name for folder in folders)}", file=sys.stderr)
            print(markdown([measure(folder, recorded_network(folder)) for folder in folders], alone))
    except NetworkError as error:
        raise InputError(str(error)) from None
    return 0


def alone_accuracy(folder: Path) -> Alone:
    """The network of a run of scheme `alone`, and its accuracy; NetworkError where the run is none or not finished."""
    network, record = read_record(folder)
    try:
        if record["config"]["scheme"] == "alone":
            return network, float(record["rungs"][-1]["accuracy"])
    except (KeyError, IndexError, TypeError, ValueError):
        pass  # a run that is not finished, or a record that was altered
    want = "a finished run of train_dnn.py --scheme alone"
    raise NetworkError.at(folder / TRAINING, "is no rung trained alone", want=want)


def beside(config: NetConfig, rung: int, alone: Sequence[Alone]) -> str:
    """Accuracy of a ladder's rung (from 0) where it was trained alone, for the table."""
    wanted = _any_head(network_alone(config, rung))
    return ", ".join(f"{100 * accuracy:.2f}" for other, accuracy in alone if _any_head(other) == wanted) or "-"


def _any_head(config: NetConfig) -> NetConfig:
    """The same for both kinds of heads where they are the same network: with one rung."""
    return replace(config, head="added") if config.rungs == 1 else config


def random_ladders(work: Path) -> list[Path]:
    """The papers' layout in every connectivity, in folders of their own, with random weights."""
    widths = tuple(tuple(n * k // len(QUARTERS) for n in FULL) for k in QUARTERS)
    folders = []
    for connectivity in ("group", "nested", "slimmable"):
        config = NetConfig.from_json({"family": "alexnet", "connectivity": connectivity, "widths": widths})
        folder = work / f"random-{connectivity}"
        export_ladder(DynamicNet(config).eval(), folder, name=folder.name, mean=(0.5,) * 3, std=(0.25,) * 3)
        (folder / TRAINING).write_text(json.dumps({"network": config.to_json()}))
        folders.append(folder)
    return folders


def measure(folder: Path, config: NetConfig) -> Speed:
    """Measure one ladder, in half a minute or so; torch runs the same layers with random weights."""
    network = Network.load(folder)
    ours_s, theirs_s = beside_torch_s(network, DynamicNet(config))
    nested = replace(config, connectivity="nested") if config.connectivity == "group" else config
    top = config.rungs - 1
    more = weight_count(nested, top) - weight_count(config, top)  # all classifiers and biases are in both
    return Speed(
        ladder=network.ladder,
        config=config,
        latencies_s=latencies_s(network),
        beside_torch=[theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)],
        switch=switch_ratio(network),
        switch_back_to_back=switch_ratio(network, None, BACK_TO_BACK_VISITS),
        upgrade=upgrade_ratios(network),
        model_bytes=model_bytes(folder),
        separate_bytes=sum(rung_bytes(folder)),
        nested_bytes=model_bytes(folder) + FLOAT_BYTES * more,
        resident_bytes=resident_bytes(folder),
    )


def markdown(speeds: list[Speed], alone: Sequence[Alone] = ()) -> str:
    """Two tables: a row per rung, and a row per ladder."""
    lines = [
        "| ladder | rung | accuracy % | trained alone % | confidence | M MACs | weights kB | ms, one thread "
        "| torch / ncnn |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in speeds:
        for k, rung in enumerate(s.ladder.rungs):
            accuracy = f"{100 * rung.accuracy:.2f}" if rung.accuracy else "-"
            confidence = f"{rung.confidence:.3f}" if rung.confidence else "-"
            costs = (f"{rung.macs / 1e6:.1f}", f"{rung.bytes / 1e3:.0f}", f"{1e3 * s.latencies_s[k]:.3f}")
            known = (accuracy, beside(s.config, k, alone), confidence)
            lines.append(_row(s.ladder.name, rung.name, *known, *costs, f"{s.beside_torch[k]:.1f}"))
    lines += [
        "",
        "| ladder | time, largest / smallest | switch, 200 frames/s | switch, back to back | upgrade 1 to 2 "
        "| weights MB | four nets / one | nested / one | in a process MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in speeds:
        ratios = (s.latencies_s[-1] / s.latencies_s[0], s.switch, s.switch_back_to_back, *(s.upgrade or [math.nan])[:1])
        separate, nested = s.separate_bytes / s.model_bytes, s.nested_bytes / s.model_bytes
        of_nested = f"{nested:.2f}" if s.config.connectivity == "group" else "-"
        memory = (f"{s.model_bytes / 1e6:.2f}", f"{separate:.2f}", of_nested, f"{s.resident_bytes / 1e6:.1f}")
        lines.append(_row(s.ladder.name, *("-" if math.isnan(r) else f"{r:.2f}" for r in ratios), *memory))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main_guard(main)
