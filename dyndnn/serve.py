"""Serves a ladder: frames in, one JSON line per frame out, the rung switched between two frames without restart.

python -m dyndnn.serve --ladder alexnet-paper --frames FOLDER --rung 50%
python -m dyndnn.serve --ladder DIR --frames test.npz --rate 30 --deadline 0.02 --anytime --seconds 10
python -m dyndnn.serve --ladder DIR                      # frames and commands on standard input

Leans on NumPy and ncnn alone. Frames: see `dyndnn.frames`. With `--rate` they arrive like a camera's, on time and
round and round, whether or not the worker keeps up: first come, first served, a frame that cannot start before its
deadline is dropped. Latency runs from arrival to result. Without `--rate`, one follows the other. With `--batch N` a
frame is N pictures in a row, shared among the threads, and one line tells of all. With `--gpu` the network is on the
GPU, by Vulkan, and on the CPU as well, so that `gpu off` and `gpu on` move the frames at no cost.

Standard input, where `--frames` is not given, or `--commands` is: a line each,

    frame PATH [LABEL]     serve a file                 rung NAME     deadline S|none     anytime on|off
    raw BYTES [LABEL]      serve that many bytes,       rate HZ|none  threads N           cpus 0-3,6
                           which follow the line        hold on|off   batch N             quit
                           gpu on|off                   powersave all|little|big

each answered by a line that repeats the command or holds an "error". Its end ends the worker. A bad frame or command
costs one line with "error"; the exit status is 0, or 2 where anything was refused. `rate`, `hold` (no frames arrive)
and `batch` are of the frames of `--frames`, and refused without it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from dyndnn.camera import camera
from dyndnn.commands import Commands, Over
from dyndnn.crew import Crew
from dyndnn.errors import NetworkError
from dyndnn.frames import open_frames, raw_frame, read_frame
from dyndnn.gpu import close_gpu
from dyndnn.ladder import ladder_folder, load_ladder
from dyndnn.network import Network
from dyndnn.settings import (
    MAX_BATCH,
    MAX_RATE_HZ,
    MAX_THREADS,
    POWERSAVE,
    Settings,
    pin,
    powersave,
)
from dyndnn.values import number, whole
from dyndnn.worker import Worker

__all__ = ["Network", "main"]

MAX_RAW = 2**28
MAX_LABEL = 10**6 - 1  # as in labels.csv
INPUT_STATUS, INTERRUPT_STATUS = 2, 130


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    status = _main(words)
    # here its worker is gone, and what it was at when it was interrupted; after anything unforeseen they may not be
    close_gpu()
    return status


def _main(words: list[str] | None) -> int:
    try:
        worker = _run(_arguments(words))
    except NetworkError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return INPUT_STATUS
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPT_STATUS
    except BrokenPipeError:
        _close_stdout()
        return 1
    print(worker.summary(), file=sys.stderr)
    return INPUT_STATUS if worker.refused else 0


def _run(args: argparse.Namespace) -> Worker:
    folder = ladder_folder(args.ladder)
    settings = Settings(
        rung=load_ladder(folder, check_files=False).index(args.rung) if args.rung else 0,
        deadline_s=None if args.deadline is None else number("--deadline", args.deadline, 1e6),
        rate_hz=None if args.rate is None else number("--rate", args.rate, MAX_RATE_HZ),
        anytime=args.anytime,
        hold=args.hold,
        batch=whole("--batch", args.batch, MAX_BATCH),
        gpu=args.gpu,
    )
    if args.anytime and args.deadline is None:
        raise NetworkError.at("--anytime", "needs a deadline", want="give one with --deadline")
    if args.anytime and settings.batch > 1:
        raise NetworkError.at("--anytime", "serves pictures one by one", want="leave --batch out")
    if args.frames is None and (args.rate or args.count or args.seconds or args.hold or settings.batch > 1):
        raise NetworkError.at("--frames", "is missing", want="--rate, --count, --seconds, --hold and --batch need it")
    if args.hold and not args.commands:
        raise NetworkError.at("--hold", "would hold for ever", want="--commands, for hold off")
    limit = None if args.count is None else whole("--count", args.count, 10**9)
    seconds = None if args.seconds is None else number("--seconds", args.seconds, 1e9)
    source = None if args.frames is None else open_frames(args.frames)
    cores = whole("--threads", args.threads, MAX_THREADS)
    if args.cpus:
        pin(args.cpus)
    if args.powersave:
        powersave(args.powersave)
    words = ["--ladder", str(folder.absolute()), "--frames", str(Path(args.frames or "").absolute())]
    crew = Crew([*words, *(["--half"] if args.half else []), *(["--lean"] if args.lean else [])])
    options = {"threads": cores, "half": args.half, "lean": args.lean}
    worker = Worker(folder, settings, _emit, crew=crew, source=source is not None, **options)
    try:
        worker.ready()
        if source is None:
            _listen(worker, Commands())
        else:
            if limit is None and seconds is None and not args.commands:
                limit = -(-len(source) // settings.batch)
            camera(worker, source, Commands() if args.commands else None, limit, seconds)
    finally:
        crew.close()
    return worker


def _emit(record: dict[str, object]) -> None:
    try:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _close_stdout()
        raise NetworkError.at("standard output", f"cannot be written: {error.strerror}") from None


def _close_stdout() -> None:
    """The interpreter flushes it once more at its end; give that somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _listen(worker: Worker, commands: Commands) -> None:
    """Frames and commands from standard input until it ends."""
    try:
        while True:
            line = commands.line(None)
            if line:
                _hear(worker, commands, line)
    except Over:
        pass


def _hear(worker: Worker, commands: Commands, line: str) -> None:
    """Serve the frame of a line, or obey it."""
    word, _, rest = line.partition(" ")
    if word not in ("frame", "raw"):
        worker.obey(line)
        return
    what, labelled = _labelled(rest.strip())
    name = what if word == "frame" else ""
    try:
        if word == "frame":
            frame = read_frame(what)
        else:
            frame = raw_frame(commands.take(whole("raw", what, MAX_RAW)), worker.network.ladder.input.shape)
        label = None if labelled is None else whole("label", labelled, MAX_LABEL, least=0)
    except NetworkError as error:
        worker.refuse(str(error), name)
        return
    worker.serve(frame, time.monotonic(), name=name, label=label)


def _labelled(text: str) -> tuple[str, str | None]:
    """A path or size, and the digits behind it where there are any."""
    what, _, last = text.rpartition(" ")
    if what and last.isascii() and last.isdigit():
        return what.strip(), last
    return text, None


class _OneLine(argparse.ArgumentParser):
    """argparse with errors as every command of ours words them."""

    def error(self, message: str) -> NoReturn:
        raise NetworkError(f"{message}; --help shows all options")


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = _OneLine(prog="python -m dyndnn.serve", description="Serve a ladder, one JSON line of timing per frame.")
    parser.add_argument("--ladder", required=True, metavar="DIR", help="folder with ladder.json, or a name of the zoo")
    parser.add_argument("--frames", metavar="PATH", help=".npy, .npz, .ppm, .pgm or a folder (default: stdin)")
    parser.add_argument("--rate", metavar="HZ", help="frames arrive like a camera's (default: one after the other)")
    parser.add_argument("--batch", default="1", metavar="N", help="pictures of --frames that make a frame (default: 1)")
    parser.add_argument("--rung", metavar="NAME", help="rung, by name or by number from 1 (default: the smallest)")
    parser.add_argument("--deadline", metavar="S", help="from arrival to result; later is a miss")
    parser.add_argument("--anytime", action="store_true", help="start at --rung, upgrade while time is left")
    parser.add_argument("--threads", default="1", metavar="N", help="(default: 1)")
    parser.add_argument("--gpu", action="store_true", help="on the GPU, by Vulkan (default: on the CPU)")
    parser.add_argument("--half", action="store_true", help="16-bit floats where the processor has them")
    parser.add_argument("--lean", action="store_true", help="about half the memory; speed: see docs/NETWORKS.md")
    cores = parser.add_mutually_exclusive_group()
    cores.add_argument("--powersave", choices=POWERSAVE, help="hint: threads stay on that cluster")
    cores.add_argument("--cpus", metavar="LIST", help="threads stay on these cores, such as 0-3,6")
    parser.add_argument("--count", metavar="N", help="stop after N frames (default: each once)")
    parser.add_argument("--seconds", metavar="S", help="stop after S seconds")
    parser.add_argument("--commands", action="store_true", help="obey standard input beside --frames")
    parser.add_argument("--hold", action="store_true", help="no frames until the command: hold off")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
