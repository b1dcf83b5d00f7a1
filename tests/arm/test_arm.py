"""What flies and what serves, on the processors of the boards: the same choices, knobs and logits as here.

Functional only: an emulator says nothing about the speed of a board.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hw.boardfile import load_board
from hw.profile import open_profile
from hw.real.emulation import Emulation
from hw.real.state import state_file
from tests.arm.conftest import Machine
from tests.arm.tree import Arch, ncnn_version
from tests.e2e.deploying import rows
from tests.emulated import limits

pytestmark = pytest.mark.arm

FUNCTIONAL = "(functional only: an emulator's time, not a board's)"
INTERVALS = 30
TIE = 1e-5  # of the largest score: choices that are so close may differ
LOGITS = 2e-5  # of the largest logit; 5e-6 was measured
LADDERS = ("digits", "alexnet-group", "resnet20-uniform")

Tell = Callable[[str], None]


def frames_of(ladder: str, machine: Machine) -> NDArray[np.uint8]:
    """A few random pictures for a ladder that ships."""
    shape = json.loads((machine.cargo / "dyndnn" / "zoo" / ladder / "ladder.json").read_text())["input"]["shape"]
    return np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8)


def test_it_is_the_processor_of_the_board(arm: Machine, arch: Arch) -> None:
    said = json.loads(arm.aboard("machine"))
    assert (said["machine"], said["bits"]) == (arch.machine, arch.bits)
    assert said["python"].startswith("3.11.") and said["numpy"].startswith("1.24."), "the oldest that we promise"
    assert said["ncnn"] == ncnn_version()
    assert said["executable"] == str(arm.python), "what it starts is emulated too"


@pytest.mark.parametrize("backend", ["sim", "emulated"])
def test_a_flight_sets_what_it_sets_here(arm: Machine, here: Machine, backend: str, tmp_path: Path, tell: Tell) -> None:
    """Telemetry too. The emulated one runs three processes there: flight, supervisor and emulator."""
    flown = {}
    for name, machine in {"there": arm, "here": here}.items():
        file = tmp_path / f"{name}.csv"
        said = machine.fly("--backend", backend, "--intervals", INTERVALS, "--seed", 7, "--telemetry", file)
        assert sum(" | missed " in line for line in said.splitlines()) == INTERVALS
        flown[name] = rows(file)
        took = [line for line in said.splitlines() if line.startswith("sense, decide and set")]
        if name == "there" and took:
            tell(f"{INTERVALS} {backend} intervals; {took[0]} {FUNCTIONAL}")
    assert len(flown["there"]) == len(flown["here"]) == INTERVALS
    assert len({tuple(v for k, v in row.items() if k.startswith("granted_")) for row in flown["here"]}) > 3
    for there_row, here_row in zip(flown["there"], flown["here"], strict=True):
        for name, value in here_row.items():
            try:
                assert float(there_row[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
            except ValueError:  # a word, or nothing
                assert there_row[name] == value, name


@pytest.fixture
def tree(arch: Arch) -> Iterator[Path]:
    """An emulated board that is there before and after a flight."""
    model = load_board(arch.board)
    emulation = Emulation.start(model, open_profile(model, None))
    yield emulation.root
    emulation.close()


def test_a_flight_leaves_the_board_as_it_was(arm: Machine, tree: Path) -> None:
    before = limits(tree)
    arm.fly("--backend", "emulated", "--root", tree, "--intervals", 5)
    assert limits(tree) == before
    assert not state_file(tree).exists()


def test_a_killed_flight_does_too(arm: Machine, arch: Arch, tree: Path, tell: Tell) -> None:
    """Its supervisor, which is emulated as well, puts the board back."""
    before = limits(tree)
    flight = (*arm.flight, "--backend", "emulated", "--root", tree, "--intervals", 400)
    flying = arm.start("-m", "experiments.deploy_policy", *flight)
    try:
        assert flying.stdout is not None
        said = [flying.stdout.readline() for _ in range(3)]
        assert " | missed " in said[-1], flying.communicate()[1]
        assert limits(tree) != before
        assert state_file(tree).exists()
        flying.kill()
        killed_s = time.monotonic()
        _, errors = flying.communicate(timeout=60)  # the supervisor's end too: it says what it does
        took_s = time.monotonic() - killed_s
    finally:
        flying.kill()
        flying.communicate()
    assert f"is gone; {arch.board} was put back" in errors, errors
    assert limits(tree) == before
    assert not state_file(tree).exists()
    tell(f"put back {took_s:.2f} s after a kill {FUNCTIONAL}")


def test_a_policy_decides_as_here(arm: Machine, here: Machine, tmp_path: Path, tell: Tell) -> None:
    """For 1,000 observations; where two choices score the same to rounding, either will do."""
    policy = arm.flight[arm.flight.index("--policy") + 1]
    with np.load(arm.cargo / policy) as arrays:
        size = arrays["w0"].shape[1]
    observations = np.random.default_rng(2).normal(0.5, 0.5, (1000, size)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    found = {}
    for name, machine in {"there": arm, "here": here}.items():
        machine.aboard("decide", policy, tmp_path / "observations.npy", tmp_path / f"{name}.npz")
        with np.load(tmp_path / f"{name}.npz") as arrays:
            found[name] = {key: arrays[key] for key in arrays.files}
    scores, ours, theirs = found["here"]["logits"], found["here"]["actions"], found["there"]["actions"]
    first = np.cumsum([0, *found["here"]["nvec"][:-1]])  # of every sub-action
    gaps = np.take_along_axis(scores, ours + first, 1) - np.take_along_axis(scores, theirs + first, 1)
    assert gaps.max() <= TIE * np.abs(scores).max()
    assert len(np.unique(ours, axis=0)) > 50, "choices hang on what is observed"
    apart = np.abs(found["there"]["logits"] - scores).max() / np.abs(scores).max()
    assert apart <= TIE
    tell(f"1,000 decisions, {np.any(ours != theirs, 1).sum()} of them ties; scores within {apart:.1e} of the largest")


@pytest.mark.parametrize("ladder", LADDERS)
def test_every_rung_gives_the_logits_it_gives_here(
    arm: Machine, here: Machine, ladder: str, tmp_path: Path, tell: Tell
) -> None:
    np.save(tmp_path / "frames.npy", frames_of(ladder, arm))
    found = []
    for name, machine in {"there": arm, "here": here}.items():
        machine.aboard("infer", ladder, tmp_path / "frames.npy", tmp_path / f"{name}.npz")
        with np.load(tmp_path / f"{name}.npz") as arrays:
            found.append(arrays["logits"])
    there_logits, here_logits = found
    assert there_logits.shape == here_logits.shape == (5, 4, 10)
    apart = np.abs(there_logits - here_logits).max() / np.abs(here_logits).max()
    tell(f"{ladder}: logits of all rungs within {apart:.1e} of the largest")
    assert apart <= LOGITS


@pytest.mark.parametrize("more", [(), ("--batch", 2, "--threads", 2)], ids=["frames", "batches"])
def test_it_serves_frames_of_a_file(
    arm: Machine, here: Machine, more: tuple[object, ...], tmp_path: Path, tell: Tell
) -> None:
    """One by one and, in batches, with a helper process."""
    np.save(tmp_path / "frames.npy", frames_of("alexnet-group", arm)[:4])
    words = ("--ladder", "alexnet-group", "--frames", tmp_path / "frames.npy", "--rung", "75%", *more)
    found = []
    for machine in (arm, here):
        lines = [json.loads(line) for line in machine.run("-m", "dyndnn.serve", *words).splitlines()]
        found.append([line for line in lines if "frame" in line])
    assert len(found[0]) == len(found[1]) == (2 if more else 4)
    for theirs, ours in zip(*found, strict=True):
        assert theirs["rung"] == ours["rung"] == "75%"
        assert theirs.get("class") == ours.get("class")
        assert theirs["confidence"] == pytest.approx(ours["confidence"], abs=1e-4)
    took_s = statistics.median(line["service_s"] for line in found[0])
    what = " ".join(map(str, more)) or "frames one by one"
    tell(f"serves alexnet-group at 75%, {what}: median {1e3 * took_s:.1f} ms {FUNCTIONAL}")
