"""Flights on emulated boards as a person starts them, and all that can go wrong: the board is always put back."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hw.boardfile import load_board
from hw.profile import open_profile
from hw.real.emulation import Emulation
from hw.real.state import BOOT_ID, state_file
from tests.e2e.deploying import policy_of, rows, run, words
from tests.e2e.refusing import refused
from tests.emulated import limits
from tests.processes import until

BOARDS = ("xu3", "jetson_nano")
BAR_S = 1.0
INTERVALS = 400  # more than any of these flights sees
AFTER = 8  # intervals that a fault is flown through

Popen = subprocess.Popen[str]


@pytest.fixture(scope="module")
def boards() -> Iterator[Callable[[str], Emulation]]:
    """Emulated boards that outlive their flights, one of each kind."""
    running: dict[str, Emulation] = {}

    def board(name: str) -> Emulation:
        if name not in running:
            model = load_board(name)
            running[name] = Emulation.start(model, open_profile(model, None))
        running[name].ask("reset", seed=0)  # it may be hot from the flight before
        return running[name]

    yield board
    for emulation in running.values():
        emulation.close()


def cooled(emulation: Emulation) -> dict[str, str]:
    """Its settings, now that it is cool: while it is hot the kernel shows lower limits than were set."""
    emulation.ask("reset", seed=0)
    return limits(emulation.root)


def but_for_heat(now: Mapping[str, str], before: Mapping[str, str]) -> bool:
    """Whether settings are the same, apart from limits that show less."""
    freqs = {path for path in before if path.endswith("_freq")}
    others = now.keys() == before.keys() and all(now[path] == before[path] for path in before.keys() - freqs)
    # empty while the emulator rewrites it
    return others and all(now[path] and int(now[path]) <= int(before[path]) for path in freqs)


def processes(root: Path) -> dict[int, str]:
    """Controllers, supervisors and guards of the board with these files."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(root) in line and any(of in line for of in ("agents.supervisor", "hw.real.guard", "deploy_policy")):
                found[int(entry.name)] = line
    return found


def supervisor_of(root: Path) -> int:
    return next(pid for pid, line in processes(root).items() if "agents.supervisor" in line)


def _rows_so_far(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


class Fault(NamedTuple):
    """What goes wrong, and how a flight ends then."""

    inject: Callable[[Emulation, Popen, Path], None]
    status: int
    says: str
    more: tuple[object, ...] = ()


def emulated(kind: str) -> Callable[[Emulation, Popen, Path], None]:
    return lambda emulation, flying, telemetry: emulation.fault(kind)


def no_fault(emulation: Emulation, flying: Popen, telemetry: Path) -> None: ...


def send(number: int) -> Callable[[Emulation, Popen, Path], None]:
    return lambda emulation, flying, telemetry: flying.send_signal(number)


def kill_supervisor(emulation: Emulation, flying: Popen, telemetry: Path) -> None:
    os.kill(supervisor_of(emulation.root), signal.SIGKILL)


def fill_disk(emulation: Emulation, flying: Popen, telemetry: Path) -> None:
    full = telemetry.stat().st_size + 40  # less than a row
    resource.prlimit(flying.pid, resource.RLIMIT_FSIZE, (full, full))


METER = "the power meter is dead or frozen"
FLY_ON = ("--fallback", "schedutil@auto", "--intervals", AFTER)
FAULTS = {
    "controller killed": Fault(send(signal.SIGKILL), -signal.SIGKILL, "is gone; {board} was put back"),
    "controller hangs": Fault(send(signal.SIGSTOP), -signal.SIGKILL, "was ended; {board} was put back"),
    "supervisor killed": Fault(kill_supervisor, 3, "the supervisor died"),
    "sensor gone": Fault(emulated("sensor_gone"), 3, METER),
    "sensor frozen": Fault(emulated("sensor_frozen"), 3, METER),
    "sensor garbage": Fault(emulated("sensor_garbage"), 3, METER),
    "sensor nan": Fault(emulated("sensor_nan"), 3, METER),
    "sensor gone, fallback": Fault(emulated("sensor_gone"), 0, "schedutil@auto takes over", FLY_ON),
    "clock refused": Fault(emulated("clock_stuck"), 0, "", ("--intervals", AFTER)),
    "clock snapped": Fault(emulated("clock_snapped"), 0, "", ("--intervals", AFTER)),
    "hot": Fault(emulated("hot"), 3, "is at 120 C"),
    "disk full": Fault(fill_disk, 3, "cannot be written"),
    "worker dies": Fault(emulated("worker_dead"), 3, "the worker died"),
    "scenario ends": Fault(no_fault, 0, "", ("--intervals", 4)),
}
POLICY4 = "sys/devices/system/cpu/cpufreq/policy4"
KINDS = ("sensor_gone", "sensor_frozen", "sensor_garbage", "sensor_nan", "clock_stuck", "clock_snapped", "hot")


def fault_run(emulation: Emulation, board: str, fault: Fault, seed: int, tmp_path: Path) -> float:
    """One flight with a fault in it; seconds from the fault (or the last row) to the tree as it was."""
    root, telemetry = emulation.root, tmp_path / "t.csv"
    before = limits(root)
    policy = policy_of(board, seed, tmp_path / "policy.npz")
    flight = words("--policy", policy, "--board", board, "--backend", "emulated", "--root", root, "--seed", seed)
    flight += ["--telemetry", str(telemetry), *(() if fault.more else ("--intervals", str(INTERVALS)))]
    flying = subprocess.Popen(
        [*flight, *map(str, fault.more)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        flown = 1 + seed % 3
        until(lambda: _rows_so_far(telemetry) > flown or flying.poll() is not None)
        assert _rows_so_far(telemetry) > flown, flying.communicate()[1]
        assert limits(root) != before or fault.more
        had = telemetry.read_bytes()
        fault.inject(emulation, flying, telemetry)
        injected_s = time.time()
        until(lambda: but_for_heat(limits(root), before) and not state_file(root).exists())
        restored_s = time.time()
        _, said = flying.communicate(timeout=30)
    finally:
        flying.kill()
        flying.communicate()
        for kind in KINDS:
            emulation.fault(kind, False)
        emulation.fault("worker_dead", False)
        emulation.sleep(0.5)  # an interval, after which the sensors' files are there again
    assert flying.returncode == fault.status, said
    assert fault.says.format(board=board) in said, said
    assert said.count("\n") == (1 if fault.says or fault.status else 0), said
    assert telemetry.read_bytes().startswith(had), "rows were lost"
    assert len(rows(telemetry)) >= flown
    until(lambda: not processes(root))
    assert cooled(emulation) == before
    # a meter that is still, and a flight that goes on, take intervals to end: what counts is from the last of them
    patient = fault.says == METER or fault.status == 0
    return restored_s - (max(injected_s, telemetry.stat().st_mtime) if patient else injected_s)


@pytest.mark.parametrize(("name", "board"), [(name, BOARDS[k % 2]) for k, name in enumerate(FAULTS)])
def test_a_fault_and_the_board_is_put_back(
    boards: Callable[[str], Emulation], board: str, name: str, tmp_path: Path
) -> None:
    """Every fault on one of the boards; `make test-slow` flies it on both, ten times."""
    assert fault_run(boards(board), board, FAULTS[name], 1, tmp_path) < BAR_S


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", FAULTS)
def test_ten_faults_and_the_board_is_put_back(
    boards: Callable[[str], Emulation], board: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    took_s = []
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        took_s.append(fault_run(boards(board), board, FAULTS[name], seed, folder))
    with capsys.disabled():
        print(f"\n{board}, {name}: put back in {np.median(took_s):.3f} s, at most {max(took_s):.3f} s")
    assert max(took_s) < BAR_S


# ---- who else is there ----

FAILS = "class X:\n    def reset(self, spec, profile): pass\n    def act(self, telemetry, demand): raise ValueError\n"


@pytest.fixture
def xu3(boards: Callable[[str], Emulation]) -> Emulation:
    return boards("xu3")


def on(emulation: Emulation, *more: object) -> tuple[object, ...]:
    return ("--policy", "schedutil@auto", "--board", "xu3", "--backend", "emulated", "--root", emulation.root, *more)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """As Popen; what runs still at the end of the test is killed, and its board is put back."""
    running: list[subprocess.Popen[Any]] = []

    def popen(words: list[str], **more: Any) -> subprocess.Popen[Any]:
        running.append(subprocess.Popen(words, **more))
        return running[-1]

    yield popen
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def in_flight(start: Callable[..., Popen]) -> Callable[..., Popen]:
    """Starts a flight; it has begun."""

    def begin(emulation: Emulation, *more: object) -> Popen:
        flying = start(words(*on(emulation, *more)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert flying.stdout is not None
        assert flying.stdout.readline()
        assert flying.stdout.readline().startswith("found kernel "), flying.communicate(timeout=60)[1]
        assert " | missed " in flying.stdout.readline(), flying.communicate(timeout=60)[1]
        return flying

    return begin


def kill_all(emulation: Emulation, flying: Popen) -> None:
    """A flight and whoever could put its board back."""
    flying.send_signal(signal.SIGSTOP)  # it must not hear of the others' end
    for pid in processes(emulation.root):
        os.kill(pid, signal.SIGKILL)
    flying.communicate(timeout=15)


@pytest.mark.parametrize("how", ["--restore", "the next start"])
def test_all_killed_and_the_board_is_put_back(xu3: Emulation, in_flight: Callable[..., Popen], how: str) -> None:
    before = limits(xu3.root)
    kill_all(xu3, in_flight(xu3))
    assert limits(xu3.root) != before
    if how == "--restore":
        done = run("--restore", "--root", xu3.root)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("xu3: put back")
    else:
        assert run(*on(xu3, "--intervals", 1)).returncode == 0
    assert cooled(xu3) == before
    assert "nothing to put back" in run("--restore", "--root", xu3.root).stdout


def test_after_a_boot_nothing_is_put_back(xu3: Emulation, in_flight: Callable[..., Popen]) -> None:
    before, boot_id = limits(xu3.root), xu3.root / BOOT_ID
    booted = boot_id.read_text()
    kill_all(xu3, in_flight(xu3))
    left = limits(xu3.root)
    boot_id.write_text("another one\n")
    try:
        saved = state_file(xu3.root).read_text()
        done = run("--restore", "--root", xu3.root)
    finally:
        boot_id.write_text(booted)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("xu3: nothing was put back: the machine was booted since ")
    assert limits(xu3.root) == left != before
    state_file(xu3.root).write_text(saved)
    assert run("--restore", "--root", xu3.root).stdout.startswith("xu3: put back")
    assert cooled(xu3) == before


def test_what_was_found_is_said(xu3: Emulation) -> None:
    header, told, *_ = run(*on(xu3, "--intervals", 1)).stdout.splitlines()
    assert "modelled" in header and "energy modelled" not in header
    governor = (xu3.root / POLICY4 / "scaling_governor").read_text().strip()
    assert told.startswith("found kernel ") and "; meter: ina231 at sys/bus/i2c/" in told
    assert f"; a15: {POLICY4}, governor {governor}, set by " in told


def test_a_second_controller_is_refused_and_changes_nothing(
    xu3: Emulation, in_flight: Callable[..., Popen], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("of an earlier flight\n")
    flying = in_flight(xu3)
    again = run(*on(xu3, "--telemetry", tmp_path / "t.csv"))
    refused(again, "another controller holds this board", f"process {flying.pid}")
    refused(run("--restore", "--root", xu3.root), "another controller holds this board")
    assert (tmp_path / "t.csv").read_text() == "of an earlier flight\n"
    assert state_file(xu3.root).exists()
    assert flying.poll() is None
    flying.send_signal(signal.SIGINT)
    _, said = flying.communicate(timeout=15)
    assert flying.returncode == 130
    assert said.startswith("interrupted after ")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flight_that_nobody_reads_flies_on(
    xu3: Emulation, start: Callable[..., subprocess.Popen[Any]], tmp_path: Path, stream: str
) -> None:
    """As at a terminal that was stopped; the supervisor would take the wait for a hang."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    if stream == "stderr":
        os.write(write, b"x" * 4096)
    (tmp_path / "mine.py").write_text(FAILS)
    more = ("--intervals", 60, "--telemetry", "t.csv", "--fallback", "ladder", "--policy", "mine.py:X")
    out, err = (write if stream == name else subprocess.PIPE for name in ("stdout", "stderr"))
    flying = start(words(*on(xu3, *more)), cwd=tmp_path, stdout=out, stderr=err)
    os.close(write)
    said = b"".join(part or b"" for part in flying.communicate(timeout=60))
    with os.fdopen(read, "rb") as rest:
        said += rest.read()
    assert flying.returncode == 0, said
    assert len(rows(tmp_path / "t.csv")) == 60 and b" frames: " in said
    assert said.count(b" | missed ") == (60 if stream == "stderr" else 0)
    assert (b"ladder takes over" in said) == (stream == "stdout")


def test_a_flight_at_a_terminal_that_stalls_flies_on(
    xu3: Emulation, start: Callable[..., subprocess.Popen[Any]], tmp_path: Path
) -> None:
    """It says that it can be written to where it takes half a line."""
    screen, terminal = pty.openpty()
    more = ("--intervals", 110, "--telemetry", "t.csv")
    flying = start(words(*on(xu3, *more)), cwd=tmp_path, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal)
    until(lambda: flying.poll() is not None or _rows_so_far(tmp_path / "t.csv") == 111)
    said = b""
    with contextlib.suppress(OSError):  # at its end
        while part := os.read(screen, 65536):
            said += part
    os.close(screen)
    _, error = flying.communicate(timeout=60)
    assert (flying.returncode, error) == (0, b"")
    lines = said.decode().splitlines()
    assert len(rows(tmp_path / "t.csv")) == 110 and 10 < sum(" | missed " in line for line in lines) < 110
    assert all(line.count(" | ") == 6 for line in lines if " ms, " in line and "median" not in line)


def test_a_shadow_flight_sets_nothing(xu3: Emulation, in_flight: Callable[..., Popen], tmp_path: Path) -> None:
    before = limits(xu3.root)
    file = policy_of("xu3", 4, tmp_path / "policy.npz")
    more = ("--policy", file, "--shadow", "--intervals", 300, "--telemetry", tmp_path / "t.csv")
    flying = in_flight(xu3, *more)
    until(lambda: len(rows(tmp_path / "t.csv")) > 5)
    assert but_for_heat(limits(xu3.root), before)
    flying.terminate()
    flying.communicate(timeout=15)
    assert flying.returncode == -signal.SIGTERM
    flown = rows(tmp_path / "t.csv")
    assert any(row["asked_a15_hz"] != row["granted_a15_hz"] for row in flown), "asked is what the policy would do"
    assert {row["granted_unit"] for row in flown} == {"a15"}
    assert cooled(xu3) == before


def test_a_killed_flight_on_an_emulator_of_its_own_leaves_nothing(
    start: Callable[..., subprocess.Popen[Any]], tmp_path: Path
) -> None:
    flying = start(
        words("--policy", "ladder", "--board", "xu3", "--backend", "emulated"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    assert flying.stdout is not None
    for _ in range(3):
        flying.stdout.readline()
    assert len(list(tmp_path.glob("xu3-*"))) == 1
    flying.kill()
    _, said = flying.communicate(timeout=15)
    assert "is gone; xu3 was put back" in said
    until(lambda: not list(tmp_path.glob("xu3-*")))


@pytest.mark.parametrize(
    ("path", "text", "parts"),
    [
        (f"{POLICY4}/scaling_available_frequencies", "200000 300000", ("lists 200, 300 MHz", "one table only")),
        (f"{POLICY4}/scaling_available_frequencies", None, ("lists no frequencies",)),
        ("sys/devices/system/cpu/online", "0-6", ("cpu7 of unit 'a15' is off", "sudo")),
    ],
)
def test_a_board_that_does_not_fit_is_one_line(
    xu3: Emulation, path: str, text: str | None, parts: tuple[str, ...]
) -> None:
    file, before = xu3.root / path, limits(xu3.root)
    good = file.read_text()
    try:
        file.unlink()
        if text is not None:
            file.write_text(text + "\n")
        refused(run(*on(xu3)), *parts)
    finally:
        file.write_text(good)
    assert limits(xu3.root) == before
    assert not state_file(xu3.root).exists()


def test_a_policy_of_another_board_is_one_line(xu3: Emulation, tmp_path: Path) -> None:
    file = policy_of("jetson_nano", 0, tmp_path / "policy.npz")
    refused(run(*on(xu3, "--policy", file)), "was trained for board 'jetson_nano'")
    refused(run(*on(xu3, "--fallback", file)), "was trained for board 'jetson_nano'")
