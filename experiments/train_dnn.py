"""Trains a dynamic network, exports it, and measures every rung of it as it will be served.

python experiments/train_dnn.py --data digits --out DIR
python experiments/train_dnn.py --recipe alexnet-group --data-dir DIR --out DIR
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from tyro.conf import OmitArgPrefixes

from dyndnn.data import Dataset, download_cifar10, load_data
from dyndnn.errors import NetworkError
from dyndnn.recipes import default_config, recipe
from dyndnn.record import TRAINING, begun
from dyndnn.settings import MAX_THREADS
from dyndnn.train_config import SHAPES, TrainConfig
from experiments._cli import INTERRUPT_STATUS, main_guard, parse
from experiments._console import console
from experiments._progress import Bar
from experiments._run import check_folder, git_commit
from hw.errors import InputError

if TYPE_CHECKING:
    from dyndnn.evaluate import Evaluation
    from dyndnn.train import Trained

SCRIPT = "train_dnn.py"
DESCRIPTION = "Train a dynamic network, export it for ncnn, and measure accuracy, confidence and latency of every rung."


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    recipe: str | None = None
    """start from what a network of the zoo was trained with (default: the one nearest to the choice of network)"""
    out: Path | None = None
    """run folder (default: runs/<time>-<net>-<connectivity>)"""
    resume: bool = False
    """go on with the training that was stopped in the run folder"""
    evaluate: Path | None = None
    """train nothing; measure the exported network in this folder, or of this name in the zoo"""
    data_dir: Path | None = None
    """CIFAR-10's canonical folder cifar-10-batches-py (with --download: default data)"""
    download: bool = False
    """fetch the canonical archive into the data folder where it is not there"""
    threads: int | None = None
    """of torch; to evaluate, of ncnn (default: one per core; for digits and to evaluate, 1)"""
    half: bool = False
    """export the weights as 16-bit numbers: half the file; with --resume also of a run that has ended"""
    device: str = "auto"
    """to train on: cpu, cuda, or the GPU where there is one"""
    training: OmitArgPrefixes[TrainConfig]
    """what is trained, and how"""


def main() -> int:
    """Run the command; the exit status."""
    try:
        config = parse(Config, DESCRIPTION, _defaults(sys.argv[1:]))
        if config.threads is not None and not 1 <= config.threads <= MAX_THREADS:
            want = f"a whole number from 1 to {MAX_THREADS}"
            raise InputError.at("--threads", "not usable", value=config.threads, want=want)
        return _evaluate(config, config.evaluate) if config.evaluate is not None else _train(config)
    except NetworkError as error:
        raise InputError(str(error)) from None


def _defaults(words: list[str]) -> Config:
    """What holds where the command line says nothing: it depends on the network and on the run to resume."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--recipe", "--out", "--data", "--net", "--connectivity", "--scheme"):
        first.add_argument(name)
    first.add_argument("--shares", type=float, nargs="+")
    first.add_argument("--resume", action="store_true")
    try:
        said, _ = first.parse_known_args(words)
    except argparse.ArgumentError:
        return Config(training=TrainConfig())  # a word is missing; the parser proper says which
    if said.resume and said.out:
        return Config(training=begun(said.out)[0])
    names = ("data", "net", "connectivity", "scheme", "shares")
    typed = {name: getattr(said, name) for name in names if getattr(said, name) is not None}
    if "shares" in typed:
        typed["shares"] = tuple(typed["shares"])
    try:
        return Config(training=recipe(said.recipe, **typed) if said.recipe else default_config(**typed))
    except NetworkError:  # an unknown name, or choices that do not go together
        return Config(training=recipe(said.recipe) if said.recipe else TrainConfig())


def _train(config: Config) -> int:
    training = config.training
    name = _name(config)
    out = config.out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{training.net}-{training.connectivity}"
    check_folder(out, SCRIPT, again=False)
    # torch takes seconds to import: not before everything cheap was checked
    from dyndnn.train import Progress, check_run, train

    check_run(training, out, resume=config.resume)
    data = _load(config, training.data)
    with Bar("training", "images") as bar:

        def on_progress(p: Progress) -> None:
            bar.turn_to(p.stage)
            note = f"epoch {p.epoch} of {p.epochs}, loss {p.loss:.3f}, in all {_time(p.left_s)} left"
            bar.update(p.images, p.images_total, note)

        try:
            done = train(
                training,
                data,
                out,
                device=config.device,
                # more threads than small networks have work for wait for each other
                threads=1 if training.data == "digits" and config.threads is None else config.threads,
                resume=config.resume,
                on_progress=on_progress,
                note={"name": name, "git_commit": git_commit()},
            )
        except KeyboardInterrupt:  # before the first step
            if not (out / TRAINING).exists():
                raise
            done = None
    if done is None or done.interrupted:
        print(f"interrupted; every whole epoch is in {out}, go on with --out {out} --resume", file=sys.stderr)
        return INTERRUPT_STATUS
    print(f"Trained in {_time(done.record['seconds'])}: {out / 'training.json'}", flush=True)
    if training.scheme == "alone":
        for rung in done.record["rungs"]:
            print(
                f"Rung {rung['rung']} alone: accuracy {100 * rung['accuracy']:.2f} %, {rung['macs'] / 1e6:.1f} M MACs"
            )
        return 0
    return _export(config, done, out, data, name)


def _name(config: Config) -> str:
    """What the ladder is called: as its recipe where it has one, and as it was when the run began."""
    training = config.training
    name = config.recipe or ("digits" if training.data == "digits" else f"{training.net}-{training.connectivity}")
    if not config.resume:
        return name
    if config.out is None:
        raise InputError.at("--resume", "names no run", want="its folder: --out DIR")
    recorded = begun(config.out)[1].get("name", name)  # earlier versions recorded none
    if config.recipe not in (None, recorded):
        want = f"{recorded}, with which the run began"
        raise InputError.at("--recipe", f"cannot change while {config.out} is resumed", value=config.recipe, want=want)
    return str(recorded)


def _export(config: Config, done: Trained, out: Path, data: Dataset, name: str) -> int:
    """The trained network as a ladder for ncnn in the run folder, measured."""
    from dyndnn.evaluate import Evaluation, Score, write_ladder
    from dyndnn.network import Network
    from dyndnn.speed import latencies_s

    holdout = config.training.holdout
    if holdout:  # the test images stay unseen, in the ladder's figures too
        data = data.held_out(holdout)
    with Bar("measuring", "images") as bar:
        ladder = write_ladder(done.net, out, data, name=name, half=config.half, on_progress=bar.update)
    score = Score(tuple(r.accuracy for r in ladder.rungs), tuple(r.confidence for r in ladder.rungs))
    images = "held-out training" if holdout else "test"
    _print(Evaluation(ladder, score, {1: latencies_s(Network.load(out))}), data, images)
    print(f"Ladder: {out}  (tensorboard --logdir {out})")
    return 0


def _evaluate(config: Config, name: Path) -> int:
    """Measure an exported network."""
    from dyndnn.ladder import ladder_folder, load_ladder

    folder = ladder_folder(name)
    shape = load_ladder(folder).input.shape
    suited = [data for data, theirs in SHAPES.items() if theirs == shape]
    if not suited:
        raise InputError.at(folder, f"takes frames of {shape}, as no data set has", want=f"one of {SHAPES}")
    data = _load(config, suited[0])
    from dyndnn.evaluate import evaluate_ladder  # by way of the export it imports torch, which takes seconds

    with Bar("measuring", "images") as bar:
        evaluation = evaluate_ladder(folder, data, threads=(config.threads or 1,), on_progress=bar.update)
    _print(evaluation, data)
    return 0


def _load(config: Config, name: str) -> Dataset:
    folder = config.data_dir
    if name == "cifar10" and config.download:
        folder = folder or Path("data")
        with Bar("downloading", "bytes") as bar:
            folder = download_cifar10(folder, bar.update)
    return load_data(name, folder)


def _print(evaluation: Evaluation, data: Dataset, images: str = "test") -> None:
    """A row per rung on stdout; `images`: what those of the data are that it was measured on."""
    out = console()
    heads, rows = evaluation.rows()
    table = Table(box=box.SIMPLE, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head == "rung" else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)
    line = (
        f"{evaluation.ladder.name}: exported model through ncnn on all {len(data.test_images):,} {images} images "
        f"of {data.name}; confidence in the right class, the largest rung's is 1."
    )
    out.print(line)


def _time(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


if __name__ == "__main__":
    main_guard(main)
