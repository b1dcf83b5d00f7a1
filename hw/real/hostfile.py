"""The board file of this very machine: what was found of it, and what a simulation needs besides, made up.

Its unit is the machine's cores, its clock cpufreq where the kernel lists frequencies, else the CPU quota of a cgroup,
else one fixed step.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hw.boardcheck import CLOCKS, HOST
from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import BoardError, InputError, Missing
from hw.real.clocks import CPUFREQ, ClockDriver, Cpufreq
from hw.real.hostclocks import FixedClock, Together
from hw.real.machine import WallTime
from hw.real.quota import QuotaClock
from hw.real.sysfs import KHZ, Sysfs

NAME = HOST
UNKNOWN_HZ = 1e9  # what full speed is called where the kernel does not say
VOLTS = (0.8, 1.1)  # made up
RAPL_ZONE = "package-0"
ZONES = ("x86_pkg_temp", "coretemp", "cpu-thermal", "cpu_thermal", "soc-thermal", "acpitz")
TEXT = """\
# This machine as a board: {cores} cores of a {processor}. Clock: {clock}.
# Clocks, cores and paths are what was found. Power, voltages and heat below are made up, so that a simulation has
# something to reckon with: a core that draws about 4 W at full speed and 0.8 to 1.1 V over its clock. Nobody measured
# any of it. With a quota for a clock the real machine saves no energy by a lower one.
name = "host"
title = "this machine: {cores} x {processor}"
default_profile = "measured"
interval_s = 0.5
thermal_nodes = [{nodes}]
reference_temp_c = 50.0
board_base_w = 0.0
fan_w = 0.0

[[clock]]
name = "cpu"
freqs_hz = [{freqs}]
volts = [{volts}]
stall_s = 1e-4

[[unit]]
name = "cpu"
clock = "cpu"
cores = {cores}
big = true
cluster_nf = 0.3
background_nf = {core_nf:.3g}
leak_a = 0.5
leak_per_v = 3.0
leak_per_k = 0.01
mem_ceiling_gbps = 10.0

[contention]
min_share = 0.5              # an equal task beside a thread of ours (the kernel's fair scheduler)
stall_stretch = 0.3915       # as fitted on the XU3 (L)

[switching]
control_path_s = 5e-4
migration_s = 1e-3
rung_s = 0.0
energy_j = 0.0

[thermal]                    # none: the temperature is the ambient one
fan_full = {{ r_k_per_w = [0.0, 0.0], tau_s = [1.0, 30.0], offset_k = 0.0 }}
fan_off = {{ r_k_per_w = [0.0, 0.0], tau_s = [1.0, 30.0], offset_k = 0.0 }}
fan_trips_c = []
fan_duty = [0.0]
fan_hysteresis_k = 5.0

[sensor]
window_s = 0.05
step_w = 0.0
gain_std = 0.0
temp_step_c = 1.0

[real]
kernel = "mainline"
clock = "{kind}"
cpus = {{ cpu = [{cpus}] }}
zones = {{ {zones} }}
meter = "{meter}"
rails = {{ {rails} }}
"""


def find_clock(
    sysfs: Sysfs, cpus: Sequence[int], kind: str = "auto", *, nominal_hz: float | None = None
) -> tuple[str, ClockDriver]:
    """The clock of this machine's cores, and which it is.

    "auto": cpufreq where the kernel lists frequencies, else a quota where a cgroup limits CPU time, else fixed.
    `nominal_hz`: what full speed is called where there is no cpufreq, by a board file that is there already (None: by
    what the kernel says). Raises InputError for another kind, Missing where the one that was asked for is not there.
    """
    if kind not in CLOCKS:
        raise InputError.at("clock", "unknown kind", value=kind, want=f"one of {', '.join(CLOCKS)}")
    nominal_hz = nominal_hz or _nominal_hz(sysfs, cpus[0])
    makers: dict[str, Callable[[], ClockDriver]] = {
        "cpufreq": lambda: Together([Cpufreq(sysfs, n, WallTime().sleep) for n in cpus]),
        "quota": lambda: QuotaClock(sysfs, nominal_hz),
        "fixed": lambda: FixedClock(nominal_hz),
    }
    for name in makers if kind == "auto" else (kind,):
        try:
            return name, makers[name]()
        except Missing:
            if kind != "auto":
                raise
    raise AssertionError("a fixed clock is never missing")


def host_text(
    sysfs: Sysfs,
    *,
    clock: str = "auto",
    cores: int | None = None,
    power_model: bool = False,
    nominal_hz: float | None = None,
) -> str:
    """The board file of this machine, with its first `cores` cores (None: all that this process may use).

    `power_model`: a meter is not looked for, as where only root may read it. `nominal_hz`: see `find_clock`.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if cores is not None:
        if not 1 <= cores <= len(cpus):
            raise InputError.at(
                "cores", "out of range", value=cores, want=f"1 to {len(cpus)}, which this process may use"
            )
        cpus = cpus[:cores]
    kind, driver = find_clock(sysfs, cpus, clock, nominal_hz=nominal_hz)
    freqs_hz = driver.freqs_hz
    low, high = VOLTS
    span = max(freqs_hz[-1] - freqs_hz[0], 1.0)
    volts = [high if len(freqs_hz) == 1 else low + (high - low) * (f - freqs_hz[0]) / span for f in freqs_hz]
    types = [sysfs.read(path) for path in sysfs.find("sys/class/thermal/thermal_zone*/type")]
    zone = next((t for t in ZONES if t in types), None)
    names = [sysfs.read(path) for path in sysfs.find("sys/class/powercap/*-rapl:*/name")]
    metered = RAPL_ZONE in names and not power_model
    return TEXT.format(
        cores=len(cpus),
        processor=_processor(sysfs),
        kind=kind,
        clock={"cpufreq": "cpufreq", "quota": "CPU quota of a cgroup", "fixed": "none that can be set"}[kind],
        nodes="" if zone is None else '"cpu"',
        freqs=", ".join(f"{f:.0f}.0" for f in freqs_hz),
        volts=", ".join(f"{v:.3f}" for v in volts),
        core_nf=4.0 / (high**2 * freqs_hz[-1]) * 1e9,
        cpus=", ".join(map(str, cpus)),
        zones="" if zone is None else f'cpu = ["{zone}"]',
        meter="rapl" if metered else "none",
        rails=f'cpu = "{RAPL_ZONE}"' if metered else "",
    )


def host_model(sysfs: Sysfs, *, clock: str = "auto", cores: int | None = None) -> BoardModel:
    """This machine as a board; see `host_text`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NAME}.toml"
        path.write_text(host_text(sysfs, clock=clock, cores=cores), encoding="utf-8")
        return replace(load_board(path), path=Path(path.name))


def _nominal_hz(sysfs: Sysfs, cpu: int) -> float:
    """What the processor's full speed is called, rounded to 100 MHz so that it is the same tomorrow."""
    for name in ("base_frequency", "cpuinfo_max_freq"):
        with contextlib.suppress(BoardError):
            return max(1.0, round(sysfs.number(f"{CPUFREQ}/cpu{cpu}/cpufreq/{name}", KHZ) / 1e8)) * 1e8
    try:  # of the moment; where there is no cpufreq, as in a virtual machine, it seldom moves
        found = re.search(r"cpu MHz\s*:\s*([0-9.]+)", sysfs.read("proc/cpuinfo"))
    except BoardError:
        found = None
    return max(1.0, round(float(found[1]) / 100)) * 1e8 if found else UNKNOWN_HZ


def _processor(sysfs: Sysfs) -> str:
    try:
        found = re.search(r"(?:model name|Model)\s*:\s*(.+)", sysfs.read("proc/cpuinfo"))
    except BoardError:
        found = None
    return re.sub(r"[^\w .@()/+-]", "", found[1]).strip() if found else os.uname().machine
