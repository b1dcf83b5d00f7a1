"""What the driver of real boards refuses, in one line and before anything is written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from experiments import _profile_setup
from experiments._profile_lint import validate
from experiments.profile_board import nothing_left
from hw.boardfile import load_board
from hw.boardmodel import RealModel
from hw.errors import Flaky, InputError, Missing, Refused
from hw.real.board import LinuxBoard
from hw.real.emulated import EmulatedBoard
from hw.real.emulation import Emulation
from hw.real.loadgen import ProcessLoad
from hw.real.machine import open_machine
from hw.real.state import state_file
from hw.real.sysfs import Sysfs
from hw.real.workplan import busy_loop
from tests.emulated import DEMAND, POLICY4, fly_on, full_speed, model_of, settings


def test_a_second_controller_is_refused(xu3: Emulation) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    code = (
        "import sys; from hw.boardfile import load_board; from hw.profile import open_profile\n"
        "from hw.real.emulated import EmulatedBoard\n"
        "from hw.real.emulation import Emulation\n"
        "model = load_board('xu3')\n"
        "EmulatedBoard(model, open_profile(model, None), Emulation.attach(sys.argv[1], model)).reset(seed=0)\n"
    )
    other = subprocess.run([sys.executable, "-c", code, str(xu3.root)], capture_output=True, text=True, check=False)
    assert f"Refused: xu3: another controller holds this board (process {os.getpid()}, board xu3)" in other.stderr
    second = fly_on(xu3)
    with pytest.raises(Refused, match="flies it already"):
        second.reset(seed=0)
    second.close()
    assert state_file(xu3.root).exists(), "the first one's"
    assert board.step(full_speed(board.spec), DEMAND).granted == full_speed(board.spec)
    board.close()


@pytest.fixture
def emulate(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts an emulator in the test's folder."""
    running: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "hw.real.emulator", "--board", "xu3", "--dir", str(tmp_path)]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_an_emulator_s_folder_is_its_own_until_it_ends(
    tmp_path: Path, emulate: Callable[[], subprocess.Popen[str]]
) -> None:
    first = emulate()
    assert first.stdout is not None
    assert first.stdout.readline().startswith("xu3 in ")
    second = emulate()
    assert second.communicate(timeout=60)[1] == (
        f"error: {tmp_path}: an emulator runs there; end that one, or name another folder\n"
    )
    assert second.returncode == 2
    Emulation.attach(tmp_path, model_of("xu3")[0]).close()  # the first one answers still
    first.kill()
    first.communicate()
    third = emulate()
    assert third.stdout is not None
    assert third.stdout.readline().startswith("xu3 in ")
    third.kill()
    third.communicate()
    (tmp_path / "emulator.sock").unlink()
    other = emulate()
    assert "sys: is no emulator's; an empty folder" in other.communicate(timeout=60)[1]
    assert (tmp_path / POLICY4).exists()


def test_a_sweep_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "a" / "new"
    old.mkdir()
    (old / "host.toml").write_text("kept")
    for out in (old, new):
        with pytest.raises(Refused), nothing_left(out):
            (out / "worker.json").write_text("{}")
            raise Refused("another controller holds this board")
    assert [p.name for p in tmp_path.rglob("*")] == ["old", "host.toml"]
    with nothing_left(new):
        (new / "worker.json").write_text("{}")
    assert (new / "worker.json").exists()


def test_a_board_with_more_cpus_than_this_machine_has(xu3: Emulation) -> None:
    (xu3.root / "sys/devices/system/cpu/present").write_text("0-1\n")
    with pytest.raises(Refused, match=r"^this machine has 2 CPUs, xu3 needs 8$"):
        fly_on(xu3)
    (xu3.root / "sys/devices/system/cpu/present").write_text("0-7\n")
    fly_on(xu3).close()


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nofile\.csv: cannot be read"):
        validate(tmp_path / "nofile.csv", None)


def edit(path: str, text: str | None) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / path).unlink()
        if text is not None:
            (root / path).write_text(text)

    return apply


@pytest.mark.parametrize(
    ("apply", "error", "text"),
    [
        (edit(f"{POLICY4}/scaling_available_frequencies", "200000 300000\n"), Refused, "lists 200, 300 MHz, the file"),
        (edit(f"{POLICY4}/scaling_available_frequencies", None), Missing, "lists no frequencies"),
        (edit("sys/devices/system/cpu/online", "0-6\n"), Refused, "cpu7 of unit 'a15' is off; sudo sh -c 'echo 1"),
        (edit(f"{POLICY4}/related_cpus", "5\n"), None, ""),  # affected_cpus says it too
        (
            lambda root: [(root / f"sys/class/thermal/thermal_zone{k}/type").write_text("x") for k in range(5)],
            Missing,
            "no zone of type cpu0-thermal or .* found x",
        ),
        (lambda root: (root / "proc/stat").write_text("cpu 1 2 3\n"), Flaky, "no line for cpu0"),
    ],
)
def test_what_does_not_fit_is_one_line(
    xu3: Emulation, apply: Callable[[Path], None], error: type[Exception] | None, text: str
) -> None:
    apply(xu3.root)
    before = settings(xu3.root)
    with pytest.raises(error, match=text) if error else contextlib.nullcontext():
        fly_on(xu3)
    assert settings(xu3.root) == before
    assert not state_file(xu3.root).exists()


def test_without_permission_nothing_is_written(xu3: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    board, before = fly_on(xu3), settings(xu3.root)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        Refused, match=r"scaling_governor: no permission to be written; run as root, or: sudo chmod"
    ) as e:
        board.reset(seed=0)
    told = str(e.value).partition("sudo chmod o+w ")[2].split()
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq", "scaling_setspeed")
    policies = (POLICY4.replace("4", "0"), POLICY4)
    assert told == [str(xu3.root / policy / name) for policy in policies for name in names], "all in one command"
    assert settings(xu3.root) == before
    assert not state_file(xu3.root).exists()
    monkeypatch.undo()
    board.reset(seed=0)  # it can be tried again
    board.close()


def test_a_speed_that_may_not_be_set_is_refused_before_the_governor_changes(
    xu3: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, before = fly_on(xu3), settings(xu3.root)
    monkeypatch.setattr(os, "access", lambda path, _: not str(path).endswith("policy4/scaling_setspeed"))
    with pytest.raises(Refused, match=r"policy4/scaling_setspeed: no permission to be written"):
        board.reset(seed=0)
    assert settings(xu3.root) == before
    board.close()


def test_a_board_without_a_table_real_is_refused() -> None:
    model, profile = model_of("xu3")
    with pytest.raises(InputError, match=r"a table \[real\]"):
        EmulatedBoard(replace(model, real=None), profile)


class Nobody:
    """Worker, load and time of a test that only looks."""

    def set(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def now_s(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None: ...

    def wait(self, seconds: float, stop: Event) -> bool:
        return stop.wait(seconds)


def test_the_5w_mode_is_known_by_its_limits() -> None:
    """The kernel lists all frequencies; nvpmodel lowers the limits."""
    emulation = Emulation.start(*model_of("jetson_nano"))
    try:
        model, profile = model_of("jetson_nano_5w")
        nobody = Nobody()

        def look() -> LinuxBoard:
            sysfs = Sysfs(emulation.root)
            return LinuxBoard(model, profile, worker=nobody, load=nobody, time=nobody, sysfs=sysfs)  # type: ignore[arg-type]

        with pytest.raises(Refused, match="a policy holds for one table only"):
            look()
        (emulation.root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq").write_text("918000\n")
        (emulation.root / "sys/class/devfreq/57000000.gpu/max_freq").write_text("640000000\n")
        look()
    finally:
        emulation.close()


def test_cores_that_are_not_the_unit_s_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Nano in 5 W mode: the board file names four cores of a unit of two, and the other two are off."""
    model, profile = model_of("jetson_nano_5w")
    emulation = Emulation.start(model, profile)
    sysfs = Sysfs(emulation.root)
    try:
        (emulation.root / "proc/stat").write_text("cpu 1 0 0 9 0\ncpu0 1 0 0 9 0\ncpu1 0 0 0 9 0\n")
        (emulation.root / "sys/devices/system/cpu/online").write_text("0-1\n")
        monkeypatch.setattr(_profile_setup, "Sysfs", lambda _: sysfs)
        assert _profile_setup.other_work(model) == 0.0
        board = open_machine(model, profile, busy_loop(rounds=(100,)), sysfs=sysfs)
        load = board._load
        assert isinstance(load, ProcessLoad)
        board.close()
        assert load._cpus == {"a57": (0, 1)}
        (emulation.root / "sys/devices/system/cpu/online").write_text("0\n")
        with pytest.raises(Refused, match="cpu1 of unit 'a57' is off"):
            open_machine(model, profile, busy_loop(rounds=(100,)), sysfs=sysfs)
    finally:
        emulation.close()


def test_a_shadow_leaves_the_clocks_to_the_kernel(xu3: Emulation) -> None:
    before = settings(xu3.root)
    model, profile = model_of("xu3")
    board = EmulatedBoard(model, profile, Emulation.attach(xu3.root, model), shadow=True)
    board.reset(seed=0)
    trace = [board.step(full_speed(board.spec), DEMAND) for _ in range(4)]
    assert not any(t.throttled for t in trace)
    assert {t.granted.freqs_hz["a7"] for t in trace} == {2e8}, "idle"
    assert trace[-1].granted.freqs_hz["a15"] > 2e8, "the kernel's own governor follows the work"
    kept = [k for k in before if k.endswith(("governor", "min_freq", "max_freq"))]
    assert {k: settings(xu3.root)[k] for k in kept} == {k: before[k] for k in kept}
    board.close()


def test_a_real_table_fits_its_board() -> None:
    for name in ("xu3", "jetson_nano", "jetson_nano_5w", "raspberry_pi_5"):
        assert isinstance(load_board(name).real, RealModel)


def refused_table(board: str, folder: Path, old: str, new: str, text: str) -> None:
    """The board's file with a change is refused in these words."""
    good = load_board(board).path.read_text(encoding="utf-8")
    assert old in good
    path = folder / "mine.toml"
    path.write_text(good.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=text):
        load_board(path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("a7 = [0, 1, 2, 3]", "a7 = [0, 1]", "cpus of 'a7'"),
        ("a7 = [0, 1, 2, 3]", "a7 = [4, 1, 2, 3]", "cpus of 'a7'"),
        ("a7 = [0, 1, 2, 3]", "a9 = [0, 1, 2, 3]", "cpus does not fit this board"),
        ('kernel = "mainline"', 'kernel = "windows"', "one of mainline, vendor"),
        ('meter = "ina231"', 'meter = "ina"', "one of none, ina231"),
        ('mem = "0041", ', "", "rails does not fit this board"),
        ('mem = "0041"', "mem = 41", "rails is not a table of texts"),
        ("zones = { soc", "zones = { gpu", "zones does not fit"),
        (
            'mem = "0041"',
            'mem = "../0041"',
            r"value '../0041': \[real\]: rails: 'mem' is no name of a device",
        ),
        ('mem = "0041"', 'mem = "00*"', "rails: 'mem' is no name of a device"),
    ],
)
def test_a_wrong_table_real_is_one_line(tmp_path: Path, old: str, new: str, text: str) -> None:
    refused_table("xu3", tmp_path, old, new, text)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('["57000000.gpu"]', "[]", r"\[real\]: devfreq of 'gpu' is empty; one or more: gpu = "),
        ('["57000000.gpu"]', '["../devfreq/57000000.gpu"]', "devfreq of 'gpu' is no name of a device"),
        ('["57000000.gpu"]', '["57000000.gpu", ".."]', "value '..': .*devfreq of 'gpu' is no name of a device"),
        ('["57000000.gpu"]', '["5700000?.gpu"]', "devfreq of 'gpu' is no name of a device"),
        ('["57000000.gpu"]', '[""]', "devfreq of 'gpu' is no name of a device"),
        ('{ gpu = ["sys/devices/57', '{ gpu = [] } #"', "gpu_load of 'gpu' is empty"),
        ('["sys/devices/57', '["../../tmp/57', r"gpu_load of 'gpu' is no file of /sys; a path below sys/, without"),
        ('["sys/devices/57', '["sys/../proc/57', "gpu_load of 'gpu' is no file of /sys"),
        ('["sys/devices/57', '["/sys/devices/57', "gpu_load of 'gpu' is no file of /sys"),
        ('["CPU-therm"]', "[]", "zones of 'cpu' is empty"),
    ],
)
def test_a_stranger_s_board_file_names_files_of_the_kernel_only(tmp_path: Path, old: str, new: str, text: str) -> None:
    refused_table("jetson_nano", tmp_path, old, new, text)
