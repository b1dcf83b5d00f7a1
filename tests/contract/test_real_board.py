"""The driver of real boards, flown on emulated ones: it keeps the contract, flies as in simulation, leaves no trace."""

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

from agents.policy import Policy, make_policy
from agents.runtime import control
from envs.families import scenario_set
from envs.reward import RewardWeights
from envs.scenario import Scenario
from hw.boardfile import BoardModel, RealModel, load_board
from hw.catalog import open_board
from hw.check import check_board
from hw.errors import Flaky, InputError, Missing, Refused
from hw.profile import open_profile
from hw.real.board import LinuxBoard
from hw.real.emulated import EmulatedBoard, EmulatedLoad, EmulatedWorker, Emulation
from hw.real.state import state_file
from hw.real.sysfs import Sysfs
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry
from tests.untrained import untrained_policy

ROOT = Path(__file__).resolve().parents[2]
DEMAND = Demand(rate_hz=20.0, deadline_s=0.1, accuracy_min=0.6, energy_budget_j=1.0, goal="min_energy")


def model_of(name: str) -> tuple[BoardModel, Profile]:
    model = load_board(name)
    return model, open_profile(model, None)


@pytest.fixture
def xu3() -> Iterator[Emulation]:
    """An emulated XU3 that stays when a board on it is closed."""
    emulation = Emulation.start(*model_of("xu3"))
    yield emulation
    emulation.close()


def fly_on(emulation: Emulation, name: str = "xu3") -> EmulatedBoard:
    model, profile = model_of(name)
    return EmulatedBoard(model, profile, Emulation.attach(emulation.root, model))


def settings(root: Path) -> dict[str, str]:
    """Every setting of the tree and what its clocks are at."""
    names = ("governor", "_freq", "setspeed", "enable")
    files = [p for p in sorted((root / "sys").rglob("*")) if p.name.endswith(names) and not p.name.startswith(".")]
    return {str(p.relative_to(root)): p.read_text() for p in files}


def full_speed(spec: BoardSpec) -> Knobs:
    big = spec.big_unit
    return Knobs(rung=2, unit=big.name, cores=2, freqs_hz={c.name: c.max_hz for c in spec.clocks})


# ---- the contract ----


@pytest.mark.parametrize("name", ["xu3", "jetson_nano", "jetson_nano_5w", "raspberry_pi_5"])
def test_an_emulated_board_keeps_the_contract(name: str) -> None:
    board = open_board(name, backend="emulated")
    check_board(board, board.profile, deterministic=False)  # energies add up in another order, to the last digits


def test_the_other_kernels_of_the_boards_are_driven_too() -> None:
    for name, kernel in (("xu3", "vendor"), ("jetson_nano", "mainline")):
        model, profile = model_of(name)
        board = EmulatedBoard(model, profile, Emulation.start(model, profile, kernel=kernel))
        board.reset(seed=1)
        assert kernel == ("vendor" if "cpu0/cpufreq" in str(board.record["clocks"]) else "mainline")
        energy_j = board.step(full_speed(board.spec), DEMAND).energy_j
        assert energy_j is not None
        assert energy_j[board.spec.big_unit.name] > 0.1
        board.close()


# ---- emulated and simulated ----


class Fixed:
    """One setting, for ever."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        pass

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        return self._knobs


def static_best(board: str, scenario: Scenario, seed: int) -> Policy:
    """The bound's choice, made on a simulated twin: it cannot see into an emulated board."""
    twin, bound = open_board(board), make_policy("static_best")
    bound.bind(twin, scenario, RewardWeights())  # type: ignore[attr-defined]
    telemetry = twin.reset(seed=seed)
    bound.reset(twin.spec, twin.profile)
    return Fixed(bound.act(telemetry, scenario.demand(0)))


@pytest.mark.parametrize("policy", ["static_best", "schedutil@auto", "saved"])
@pytest.mark.parametrize("name", ["xu3", "jetson_nano"])
def test_an_emulated_flight_is_the_simulated_one(name: str, policy: str) -> None:
    """Same knobs in 99 % of the intervals, energy within 3 %."""
    seed, intervals = 5, 40
    simulated = open_board(name)
    spec, profile = simulated.spec, simulated.profile
    scenario = scenario_set("held_out", spec, profile, 1, seed=3)[0]

    def pilot() -> Policy:
        if policy == "static_best":
            return static_best(name, scenario, seed)
        return untrained_policy(spec, profile) if policy == "saved" else make_policy(policy)

    flown = control(simulated, pilot(), scenario, profile, seed=seed, intervals=intervals)
    board = open_board(name, backend="emulated")
    with contextlib.closing(board):
        emulated = control(board, pilot(), scenario, profile, seed=seed, intervals=intervals)
    same = sum(a.granted == b.granted for a, b in zip(flown, emulated, strict=True))
    assert same >= 0.99 * intervals
    energies_j = [sum(t.total_energy_j or 0.0 for t in trace) for trace in (flown, emulated)]
    assert energies_j[1] == pytest.approx(energies_j[0], rel=0.03)
    for attribute in ("frames", "served", "missed", "labelled"):
        assert sum(getattr(t, attribute) for t in emulated) == pytest.approx(
            sum(getattr(t, attribute) for t in flown), rel=0.03
        )
    assert [t.throttled for t in emulated] == [t.throttled for t in flown]


def test_the_command_flies_an_emulated_board(tmp_path: Path) -> None:
    telemetry = tmp_path / "flight.csv"
    command = "experiments/deploy_policy.py --policy ladder --board jetson_nano --backend emulated --intervals 3"
    words = [sys.executable, *command.split(), "--telemetry", str(telemetry)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jetson_nano (emulated)" in done.stdout
    assert len(telemetry.read_text().splitlines()) == 4
    words[3] = "static_best"
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, "a policy that cannot fly is one line, and the emulator is ended"


# ---- it is left as it was found ----


@pytest.mark.parametrize("name", ["xu3", "jetson_nano"])
def test_the_tree_is_as_before(name: str) -> None:
    emulation = Emulation.start(*model_of(name))
    try:
        before = settings(emulation.root)
        board = fly_on(emulation, name)
        assert settings(emulation.root) == before, "looking is not touching"
        board.reset(seed=0)
        board.step(full_speed(board.spec), DEMAND)
        assert settings(emulation.root) != before
        assert state_file(emulation.root).exists()
        board.close()
        board.close()
        emulation.ask("look")
        after = settings(emulation.root)
        present = ("cur_freq", "setspeed")  # what the kernel's own governor makes of it
        assert {k: v for k, v in after.items() if not k.endswith(present)} == {
            k: v for k, v in before.items() if not k.endswith(present)
        }
        assert not state_file(emulation.root).exists()
        with pytest.raises(Refused, match="closed"):
            board.reset(seed=0)
    finally:
        emulation.close()


def test_a_board_that_is_closed_leaves_no_folder() -> None:
    board = open_board("xu3", backend="emulated")
    assert isinstance(board, EmulatedBoard)
    root = board.emulation.root
    board.reset(seed=0)
    board.close()
    assert not root.exists()
    with pytest.raises(Refused):
        board.step(full_speed(board.spec), DEMAND)


def test_the_meters_of_a_vendor_kernel_are_switched_off_again() -> None:
    model, profile = model_of("xu3")
    emulation = Emulation.start(model, profile, kernel="vendor")
    try:
        enable = emulation.root / "sys/bus/i2c/drivers/INA231/3-0040/enable"
        board = EmulatedBoard(model, profile, Emulation.attach(emulation.root, model))
        board.reset(seed=0)
        assert enable.read_text() == "1\n"
        board.close()
        assert enable.read_text() == "0\n"
    finally:
        emulation.close()


# ---- it is refused before anything is written ----


def test_a_second_controller_is_refused(xu3: Emulation) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    code = (
        "import sys; from hw.boardfile import load_board; from hw.profile import open_profile\n"
        "from hw.real.emulated import EmulatedBoard, Emulation\n"
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


def edit(path: str, text: str | None) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / path).unlink()
        if text is not None:
            (root / path).write_text(text)

    return apply


POLICY4 = "sys/devices/system/cpu/cpufreq/policy4"


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
    with pytest.raises(Refused, match=r"scaling_governor: no permission to be written; run as root, or: sudo chmod"):
        board.reset(seed=0)
    assert settings(xu3.root) == before
    assert not state_file(xu3.root).exists()
    monkeypatch.undo()
    board.reset(seed=0)  # it can be tried again
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


# ---- what goes wrong in flight ----


def test_a_kernel_without_userspace_is_driven_by_its_limits(xu3: Emulation) -> None:
    for policy in (POLICY4, POLICY4.replace("4", "0")):
        (xu3.root / policy / "scaling_available_governors").write_text("ondemand performance\n")
    board = fly_on(xu3)
    board.reset(seed=0)
    for ghz in (0.2, 2.0, 1.1, 1.4, 0.3):
        knobs = replace(full_speed(board.spec), freqs_hz={"a7": 6e8, "a15": ghz * 1e9})
        assert board.step(knobs, DEMAND).granted == knobs
    board.close()
    assert (xu3.root / POLICY4 / "scaling_max_freq").read_text() == "2000000\n"


@pytest.mark.parametrize("fault", ["clock_stuck", "clock_snapped"])
def test_a_clock_that_is_not_as_asked_shows(xu3: Emulation, fault: str) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault(fault)
    t = board.step(full_speed(board.spec), DEMAND)
    table = board.spec.clock("a15").freqs_hz
    assert t.granted.freqs_hz["a15"] == (table[0] if fault == "clock_stuck" else table[-2])
    assert t.throttled
    xu3.fault(fault, False)
    assert board.step(full_speed(board.spec), DEMAND).granted == full_speed(board.spec)
    board.close()


@pytest.mark.parametrize("fault", ["sensor_gone", "sensor_garbage", "sensor_nan", "sensor_frozen"])
def test_a_broken_meter_is_missing_and_not_zero(xu3: Emulation, fault: str) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault(fault)
    first = board.step(full_speed(board.spec), DEMAND)
    trace = [board.step(full_speed(board.spec), DEMAND) for _ in range(11)]
    assert (first.energy_j is None) == (fault != "sensor_frozen"), "stillness shows after a while"
    assert trace[-1].energy_j is None
    assert trace[-1].sensor_age_s is not None
    assert trace[-1].sensor_age_s > 5.0
    assert board.record["meter_trouble"]
    xu3.fault(fault, False)
    board.step(full_speed(board.spec), DEMAND)
    assert board.step(full_speed(board.spec), DEMAND).energy_j is not None
    board.close()


def test_heat_is_told(xu3: Emulation) -> None:
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("hot")
    assert board.step(full_speed(board.spec), DEMAND).temp_c == {"soc": 120.0}
    board.close()


def test_a_dead_worker_is_flaky_and_the_board_can_be_closed(xu3: Emulation) -> None:
    before = settings(xu3.root)
    board = fly_on(xu3)
    board.reset(seed=0)
    xu3.fault("worker_dead")
    with pytest.raises(Flaky, match="the worker died"):
        board.step(full_speed(board.spec), DEMAND)
    board.close()
    xu3.ask("look")
    limits = [k for k in before if k.endswith(("governor", "max_freq", "min_freq"))]
    assert {k: settings(xu3.root)[k] for k in limits} == {k: before[k] for k in limits}


def test_an_emulator_that_dies_is_flaky(xu3: Emulation) -> None:
    worker, load = EmulatedWorker(xu3), EmulatedLoad(xu3)
    xu3.close()
    with pytest.raises(Flaky, match="is gone"):
        worker.serve(DEMAND, 0.5)
    worker.close()
    load.close()


def test_a_real_table_fits_its_board() -> None:
    for name in ("xu3", "jetson_nano", "jetson_nano_5w", "raspberry_pi_5"):
        assert isinstance(load_board(name).real, RealModel)


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
    ],
)
def test_a_wrong_table_real_is_one_line(tmp_path: Path, old: str, new: str, text: str) -> None:
    good = load_board("xu3").path.read_text(encoding="utf-8")
    assert old in good
    path = tmp_path / "mine.toml"
    path.write_text(good.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=text):
        load_board(path)
