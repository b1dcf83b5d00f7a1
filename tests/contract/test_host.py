"""This machine as a board: what is found on machines made here, and a flight on this one."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hw.catalog import open_board
from hw.check import check_spec, check_telemetry
from hw.errors import InputError, Missing, Refused
from hw.modelled import model_profile
from hw.profile import save_profile
from hw.real.host import HostBoard, open_host
from hw.real.hostclocks import FixedClock, Together
from hw.real.hostfile import find_clock, host_model, host_text
from hw.real.hostpower import ModelledSource
from hw.real.interfaces import Served
from hw.real.quota import QuotaClock
from hw.real.sensors import Usage
from hw.real.settings import put_back
from hw.real.sysfs import Sysfs
from hw.real.workplan import WorkPlan, save_plan
from hw.types import Demand, Knobs, Load
from tests.here import need_quota, need_state_folder
from tests.hostprofile import profile_of

pytestmark = pytest.mark.usefixtures("this_machine")
CPUS = sorted(os.sched_getaffinity(0))
DEMAND = Demand(rate_hz=20.0, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")


def write(root: Path, files: dict[str, object]) -> Sysfs:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return Sysfs(root)


def cpufreq(cpu: int, khz: str) -> dict[str, object]:
    folder = f"sys/devices/system/cpu/cpufreq/policy{cpu}"
    low, high = khz.split()[0], khz.split()[-1]
    return {
        f"{folder}/related_cpus": cpu,
        f"{folder}/scaling_available_frequencies": khz,
        f"{folder}/scaling_available_governors": "schedutil performance",
        f"{folder}/scaling_governor": "schedutil",
        f"{folder}/scaling_min_freq": low,
        f"{folder}/scaling_max_freq": high,
        f"{folder}/scaling_cur_freq": low,
        f"{folder}/scaling_driver": "acpi-cpufreq",
    }


CGROUP_V1: dict[str, object] = {"sys/fs/cgroup/cpu/cgroup.procs": 1}
PROCESSOR: dict[str, object] = {"proc/cpuinfo": 'model name : Some {x} "Chip" @ 2.60GHz\ncpu MHz : 2596.142'}


def test_the_clock_is_cpufreq_where_there_is_one(tmp_path: Path) -> None:
    sysfs = write(tmp_path, {**cpufreq(0, "800000 1600000 2400000"), **cpufreq(1, "800000 2400000"), **CGROUP_V1})
    kind, clock = find_clock(sysfs, (0, 1))
    assert kind == "cpufreq" and isinstance(clock, Together) and clock.freqs_hz == (8e8, 2.4e9)
    assert clock.limit_hz == 2.4e9 and clock.record()["policies"] == "2"
    before = clock.state()
    assert len(before) == 6
    clock.take(8e8, 2.4e9)
    clock.set(2.4e9)
    for n in (0, 1):
        assert (tmp_path / f"sys/devices/system/cpu/cpufreq/policy{n}/scaling_min_freq").read_text() == "2400000\n"
    assert put_back(sysfs, before) == []
    assert clock.state() == before
    with pytest.raises(Missing, match="no clock frequency in common"):
        find_clock(write(tmp_path, cpufreq(1, "900000 1000000")), (0, 1), "cpufreq")


@pytest.mark.parametrize("slow", [0, 1])
def test_of_two_policies_the_slower_counts(tmp_path: Path, slow: int) -> None:
    khz, folder = "800000 1600000 2400000", "sys/devices/system/cpu/cpufreq/policy"
    clock = find_clock(write(tmp_path, {**cpufreq(0, khz), **cpufreq(1, khz)}), (0, 1))[1]
    write(tmp_path, {f"{folder}{slow}/scaling_max_freq": 1600000, f"{folder}{1 - slow}/scaling_cur_freq": 2400000})
    assert (clock.limit_hz, clock.granted_hz(), clock.set(2.4e9)) == (1.6e9, 8e8, 8e8)


def test_else_a_quota_else_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    kind, clock = find_clock(write(tmp_path / "a", {**CGROUP_V1, **PROCESSOR}), (0, 1))
    assert kind == "quota" and isinstance(clock, QuotaClock) and clock.limit_hz == 2.6e9
    (tmp_path / "b").mkdir()
    kind, clock = find_clock(Sysfs(tmp_path / "b"), (0, 1))
    assert kind == "fixed" and isinstance(clock, FixedClock) and clock.freqs_hz == (1e9,)
    with pytest.raises(Missing):
        find_clock(Sysfs(tmp_path / "b"), (0, 1), "quota")
    with pytest.raises(InputError, match="one of auto"):
        find_clock(Sysfs(tmp_path / "b"), (0, 1), "pendulum")


def test_full_speed_is_called_the_same_tomorrow(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    speeds = []
    for found in ({}, {f"{folder}/cpuinfo_max_freq": 3900000}, {f"{folder}/base_frequency": 2100000}):
        speeds.append(find_clock(write(tmp_path, {**PROCESSOR, **found}), (0, 1), "fixed")[1].limit_hz)
    assert speeds == [2.6e9, 3.9e9, 2.1e9], "of the moment only where nothing else is said"
    assert find_clock(Sysfs(tmp_path), (0, 1), "fixed", nominal_hz=3e9)[1].limit_hz == 3e9
    assert "freqs_hz = [3000000000.0]" in host_text(Sysfs(tmp_path), clock="fixed", nominal_hz=3e9)


def test_a_flight_calls_full_speed_as_its_board_file_does(folder: Path) -> None:
    text = host_text(Sysfs("/"), clock="fixed", nominal_hz=7.7e9)
    (folder / "host.toml").write_text(text)
    save_profile(profile_of("host", folder / "host.toml", "missing"), folder / "host-x.csv")
    board = open_host(folder / "host-x.csv")
    board.close()
    assert board.spec.clocks[0].max_hz == 7.7e9


@pytest.mark.parametrize("kind", ["quota", "fixed"])
def test_a_flight_has_the_clock_that_was_measured(folder: Path, kind: str) -> None:
    """Also where another one is there, which this machine would have by itself."""
    if kind == "quota":
        need_quota()
    (folder / "host.toml").write_text(host_text(Sysfs("/"), clock=kind))
    save_profile(profile_of("host", folder / "host.toml", "missing"), folder / "host-x.csv")
    board = open_board("host", profile=folder / "host-x.csv", backend="real")
    board.close()
    assert isinstance(board, HostBoard) and board.clock_kind == kind
    text = (folder / "host.toml").read_text()
    (folder / "host.toml").write_text(text.replace(f'clock = "{kind}"\ncpus', 'clock = "sundial"\ncpus'))
    with pytest.raises(
        InputError, match=r"host\.toml, value 'sundial': \[real\]: clock; one of auto, cpufreq, quota, fixed"
    ):
        open_host(folder / "host-x.csv")


def test_a_board_file_of_any_machine(tmp_path: Path) -> None:
    sysfs = write(
        tmp_path,
        {
            **PROCESSOR,
            **cpufreq(CPUS[0], "800000 1600000 2400000"),
            "sys/class/thermal/thermal_zone3/type": "x86_pkg_temp",
            "sys/class/powercap/intel-rapl:0/name": "package-0",
        },
    )
    text = host_text(sysfs, cores=1)
    assert "made up" in text and "1 cores of a Some x Chip @ 2.60GHz. Clock: cpufreq" in text
    model = host_model(sysfs, cores=1)
    assert model.spec.clocks[0].freqs_hz == (8e8, 1.6e9, 2.4e9) and model.spec.clocks[0].volts == (0.8, 0.95, 1.1)
    assert model.real is not None and model.real.cpus == {"cpu": [CPUS[0]]}
    assert (model.real.meter, model.real.rails, model.real.zones) == (
        "rapl",
        {"cpu": "package-0"},
        {"cpu": ["x86_pkg_temp"]},
    )
    assert 'meter = "none"\nrails = {  }' in host_text(sysfs, cores=1, power_model=True)
    (tmp_path / "bare").mkdir()
    bare = host_model(Sysfs(tmp_path / "bare"))
    assert bare.real is not None and bare.real.meter == "none" and bare.spec.thermal_nodes == ()
    for cores in (0, 5000):
        with pytest.raises(InputError, match="out of range"):
            host_text(sysfs, cores=cores)


class HalfBusy(Usage):
    """Cores half of whose time is work, one of them always."""

    def __init__(self) -> None: ...

    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        return {"cpu": 0.5}, {"cpu": 1.0}


def test_modelled_energy_is_that_of_the_clock_and_of_the_busy_cores(tmp_path: Path) -> None:
    model = host_model(write(tmp_path, cpufreq(CPUS[0], "800000 1600000 2400000")), cores=1)
    four = replace(model, spec=replace(model.spec, units=(replace(model.spec.units[0], cores=4),)))
    source = ModelledSource(four, HalfBusy(), FixedClock(1.6e9))
    unit, volts = model.units[0], 0.95
    leaks_w = volts * unit.leak_a * math.exp(unit.leak_per_v * (volts - 1.0))  # at 50 C
    watts = leaks_w + (unit.cluster_nf + unit.background_nf * 0.5 * 4) * 1e-9 * volts**2 * 1.6e9
    for total_s in (2.0, 4.0):
        assert source.joules(2.0) == {"cpu": pytest.approx(2.0 * watts)}
        assert sum(source.digits()) == pytest.approx(total_s * watts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What profile_board.py leaves, for a host without a clock."""
    (tmp_path / "host.toml").write_text(host_text(Sysfs("/"), clock="fixed"))
    save_plan(WorkPlan(ladder="digits", rounds=(50, 500)), tmp_path)
    save_profile(profile_of("host", tmp_path / "host.toml", "modelled"), tmp_path / "host-x.csv")
    return tmp_path


def flown(board: HostBoard, freqs_hz: tuple[float, ...]) -> None:
    end_s = time.monotonic() + 60.0
    while True:
        try:
            board.reset()
            break
        except Refused as error:
            if "another controller" not in str(error) or time.monotonic() > end_s:
                board.close()
                raise
            time.sleep(0.2)  # another test flies this machine
    try:
        for k, freq_hz in enumerate(freqs_hz):
            if k == 1:
                board.inject(Load(busy={"cpu": 0.5}))
            knobs = Knobs(rung=1 + k % 2, unit="cpu", cores=1, freqs_hz={"cpu": freq_hz})
            telemetry = board.step(knobs, DEMAND)
            check_telemetry(telemetry, board.spec, 2)
            assert telemetry.granted == telemetry.asked == knobs and telemetry.frames > 0
            assert telemetry.energy_j is not None and telemetry.energy_j["cpu"] > 0.0
            used = telemetry.utilisation["cpu"]
        for _ in range(40):  # the kernel counts in ticks of 10 ms, and others may want the core: some show none
            if used > 0.0:
                break
            used = board.step(knobs, DEMAND).utilisation["cpu"]
        assert used > 0.0
        assert "modelled" in str(board.record["meter"]) and "busy loop" in str(board.record["worker"])
    finally:
        board.close()
        board.close()


def test_a_flight_without_a_clock(folder: Path) -> None:
    need_state_folder()
    board = open_host(folder / "host-x.csv")
    assert board.record["meter"] == "modelled by the board file's power law, not measured"
    check_spec(board.spec, board.profile)
    flown(board, board.spec.clocks[0].freqs_hz * 2)


def test_a_flight_on_a_quota(tmp_path: Path) -> None:
    need_state_folder()
    need_quota()
    model = host_model(Sysfs("/"), clock="quota")
    assert model.real is not None
    profile = replace(profile_of("host", _file(tmp_path, "quota"), "modelled"), points=())
    board = HostBoard(model, profile, plan=WorkPlan(ladder="digits", rounds=(50, 500)), power_model=True)
    group = Path("/") / str(board._clock.record()["path"])
    seen: list[bool] = []
    serve = board.worker.serve

    def looked(demand: Demand, seconds: float) -> Served:
        seen.append(group.is_dir())
        return serve(demand, seconds)

    board.worker.serve = looked  # type: ignore[method-assign]
    flown(board, (model.spec.clocks[0].freqs_hz[0], model.spec.clocks[0].freqs_hz[-1]))
    assert all(seen) and seen, "it is there while it flies"
    assert not group.exists()


def _file(folder: Path, clock: str) -> Path:
    path = folder / "host.toml"
    path.write_text(host_text(Sysfs("/"), clock=clock))
    return path


def test_a_profile_of_nowhere(folder: Path) -> None:
    (folder / "worker.json").unlink()
    with pytest.raises(InputError, match=r"worker\.json: is missing"):
        open_host(folder / "host-x.csv")
    (folder / "host.toml").unlink()
    with pytest.raises(InputError, match=r"is no profile of this machine"):
        open_host(folder / "host-x.csv")
    with pytest.raises(InputError, match=r"latency.* is missing|\[real\]|missing"):
        model_profile("digits", host_model(Sysfs("/"), clock="fixed"))


def test_a_clock_that_is_not_the_files(folder: Path) -> None:
    text = (
        (folder / "host.toml")
        .read_text()
        .replace("freqs_hz = [", "freqs_hz = [1.0e9, ")
        .replace("volts = [", "volts = [0.7, ")
    )
    (folder / "host.toml").write_text(text)
    save_profile(profile_of("host", folder / "host.toml", "missing"), folder / "host-x.csv")
    with pytest.raises(Refused, match="is not the one of"):
        open_host(folder / "host-x.csv")
