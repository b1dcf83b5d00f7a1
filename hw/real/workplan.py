"""What serves the frames of a profile, as a file beside it: who flies by the profile later starts the same again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from hw.errors import InputError
from hw.files import atomic_write_text, read_text
from hw.ladderfile import LADDER_FILE, find_ladder, read_ladder
from hw.real.worker import ProcessWorker

WORKER_FILE = "worker.json"
SYNTHETIC_FRAMES = 16


@dataclass(frozen=True, kw_only=True)
class WorkPlan:
    """A worker that can be started: a network, or a busy loop in its place."""

    ladder: str  # a name of the zoo or a folder; the busy loop stands in for it
    images: int = 1  # pictures in a frame; a network's
    frames: str = ""  # where they are from; "": noise
    rounds: tuple[int, ...] = ()  # of the busy loop, per rung; empty: the network itself serves

    def start(
        self, on_start: Callable[[int], None] | None = None, *, threads: int = 1, gpu: bool = False
    ) -> ProcessWorker:
        """Start it, ready for so many threads and, if asked, for the GPU too.

        Raises InputError where the ladder is gone or there is nothing for a GPU, Flaky where it fails.
        """
        if self.rounds and gpu:
            want = "install ncnn and profile the board with a network, --ladder"
            raise InputError.at("GPU", "the busy loop that stands in for a network runs on CPUs alone", want=want)
        if self.rounds:
            return busy_loop(rounds=self.rounds, on_start=on_start)
        found = find_ladder(self.ladder)
        if found is None:
            raise InputError(f"unknown ladder {self.ladder!r}: neither of the zoo nor a folder with a ladder.json")
        rungs, shape = len(read_ladder(found).rungs), input_shape(found)
        frames = self.frames or None
        return network(
            found, rungs, shape, frames=frames, images=self.images, threads=threads, gpu=gpu, on_start=on_start
        )


def input_shape(ladder: Path) -> tuple[int, ...]:
    """Channels, height and width of a ladder's pictures; InputError where its file does not say."""
    try:
        shape = tuple(int(n) for n in json.loads(read_text(ladder))["input"]["shape"])
    except (ValueError, KeyError, TypeError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        want = "channels, height and width"
        raise InputError.at(ladder, "does not say what its pictures are", column="input.shape", want=want)
    return shape


def save_plan(plan: WorkPlan, folder: Path) -> None:
    """Write it beside a profile; InputError where it cannot be written."""
    atomic_write_text(folder / WORKER_FILE, json.dumps(asdict(plan), indent=2) + "\n")


def load_plan(folder: Path) -> WorkPlan:
    """The plan of a folder; InputError where there is none."""
    path = folder / WORKER_FILE
    if not path.is_file():
        want = "profile_board.py writes it beside a measured profile; name such a profile"
        raise InputError.at(path, "is missing, so nobody knows what serves the frames", want=want)
    try:
        raw = json.loads(read_text(path))
        plan = WorkPlan(**{**raw, "rounds": tuple(raw["rounds"])})
        texts = all(isinstance(text, str) and "\0" not in text for text in (plan.ladder, plan.frames))
        counts = all(type(n) is int and n >= 1 for n in (plan.images, *plan.rounds))
        if {f.name for f in fields(plan)} != raw.keys() or not texts or not counts:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError.at(path, "does not say what serves the frames", want="as profile_board.py wrote it") from None
    return plan


def network(
    ladder: str | Path,
    rungs: int,
    shape: Sequence[int],
    *,
    frames: str | Path | None = None,
    images: int = 1,
    threads: int = 1,
    gpu: bool = False,
    on_start: Callable[[int], None] | None = None,
) -> ProcessWorker:
    """A worker that serves the ladder of a folder through ncnn, `images` pictures a frame, which threads share.

    `frames`: what `dyndnn.serve --frames` takes, labelled or not; without, pictures of noise of that `shape`. `gpu`:
    it can move to the GPU. Raises Flaky where it does not start.
    """
    owned: list[Path] = []
    if frames is None:
        handle, name = tempfile.mkstemp(suffix=".npy", prefix="powerband-frames-")
        owned.append(Path(name))
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, np.random.default_rng(0).integers(0, 256, (SYNTHETIC_FRAMES, *shape), np.uint8))
    folder = Path(ladder).parent if Path(ladder).name == LADDER_FILE else Path(ladder)
    source = Path(owned[0] if frames is None else frames)
    words = ["-m", "dyndnn.serve", "--ladder", str(folder.absolute()), "--frames", str(source.absolute())]
    words += ["--batch", str(images), "--threads", str(threads), "--commands", "--hold"]
    words += ["--gpu"] if gpu else []
    pictures = "noise, unlabelled" if frames is None else source.name
    told = f"ncnn through dyndnn.serve, ladder {folder.name}, {images} pictures a frame ({pictures})"
    return ProcessWorker(words, rungs, images=images, told=told, on_start=on_start, owned=owned)


def busy_loop(
    seconds: Sequence[float] = (), *, rounds: Sequence[int] = (), on_start: Callable[[int], None] | None = None
) -> ProcessWorker:
    """A worker that only works: on rung k a frame takes `seconds[k - 1]` of one core at full speed.

    Start it while the clocks are up: it measures its work then, once (`ProcessWorker.rounds`); with `rounds` it does
    exactly that again. Raises InputError where the numbers are none, Flaky where it does not start.
    """
    work: Sequence[float] = rounds or seconds
    if not work or not all(0.0 < w < 1e9 for w in work):
        raise InputError.at("busy loop", "no work", value=list(work), want="numbers above 0, one per rung")
    listed = ",".join(f"{w:.9g}" for w in work)
    words = ["-m", "hw.real.busyloop", "--rounds" if rounds else "--seconds", listed]
    told = f"busy loop in place of a network, {listed} {'rounds' if rounds else 's of one core'} a frame, by rung"
    return ProcessWorker(words, len(work), told=told, on_start=on_start)


def work_seconds(work: Sequence[float], smallest_s: float) -> tuple[float, ...]:
    """Times of one core in proportion to `work` (MACs, or latencies of a profile), the smallest rung's as given."""
    return tuple(smallest_s * w / work[0] for w in work)
