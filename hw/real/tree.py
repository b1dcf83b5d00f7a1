"""The files of an emulated board: a folder with the names and units of /sys and /proc, in two kernels' layouts.

Its clocks (`hw.real.kernelclock`) take what is written; its sensors show what they are told.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from hw.boardmodel import BoardModel, RealModel
from hw.real.kernelclock import Folder, KernelClock
from hw.real.sysfs import (
    MICROJOULE,
    MICROSECOND,
    MICROWATT,
    MILLI_C,
    MILLIAMPERE,
    MILLISECOND,
    MILLIVOLT,
    MILLIWATT,
    PERMILLE,
    kernel_text,
)

CPU = "sys/devices/system/cpu"
FIRST_GOVERNOR = {"mainline": "ondemand", "vendor": "schedutil"}  # an XU4's kernel 5.x; L4T 4.9
GPU_GOVERNOR = {"mainline": "simple_ondemand", "vendor": "nvhost_podgov"}
RAIL_V = 5.0  # what the INA3221's channels are connected to
RAPL_RANGE_J = 262143.0
FAULTS = ("sensor_gone", "sensor_frozen", "sensor_garbage", "sensor_nan", "clock_stuck", "clock_snapped", "hot")
HOT_C = 120.0


class Tree:
    """All files of a board. Its clocks take what was written at `look`; its sensors show what they are told."""

    def __init__(self, root: Path, model: BoardModel, real: RealModel) -> None:
        """Write the tree under `root`, which is made where it is not there."""
        self._model, self._real, self.files = model, real, Folder(root)
        self.faults: set[str] = set()
        files, vendor = self.files, real.kernel == "vendor"
        cpus = sorted(n for numbers in real.cpus.values() for n in numbers)
        files.put(f"{CPU}/online", ",".join(map(str, cpus)))
        files.put("proc/sys/kernel/osrelease", "0.0-emulated")
        files.put("proc/sys/kernel/random/boot_id", str(uuid.uuid4()))
        stalls = dict(zip((c.name for c in model.spec.clocks), model.stall_s, strict=True))
        self.clocks = {}
        for clock in model.spec.clocks:
            owned = sorted(n for u in model.units if u.clock == clock.name for n in real.cpus.get(u.name, []))
            folder = self._cpufreq(owned, vendor) if owned else self._devfreq(real.devfreq[clock.name][0])
            governor = (FIRST_GOVERNOR if owned else GPU_GOVERNOR)[real.kernel]
            self.clocks[clock.name] = KernelClock(
                files, clock, folder, is_cpu=bool(owned), governor=governor, stall_s=stalls[clock.name]
            )
        self._zones = [(t, node) for node, types in real.zones.items() for t in types]
        files.put("sys/class/thermal/thermal_zone0/type", "not-this-one")  # a driver that counts zones fails here
        files.put("sys/class/thermal/thermal_zone0/temp", kernel_text(25.0, MILLI_C))
        for k, (kind, _) in enumerate(self._zones):
            files.put(f"sys/class/thermal/thermal_zone{k + 1}/type", kind)
        files.put("sys/class/hwmon/hwmon9/name", "pwmfan")
        self._meters = _meters(files, model, real)
        self._counted_j = dict.fromkeys(model.spec.rails, 0.0)
        self._ticks = {n: [0, 0] for n in cpus}  # busy, idle

    def _cpufreq(self, cpus: Sequence[int], vendor: bool) -> str:
        folder = f"{CPU}/cpu{cpus[0]}/cpufreq" if vendor else f"{CPU}/cpufreq/policy{cpus[0]}"
        for name in ("affected_cpus", "related_cpus"):
            self.files.put(f"{folder}/{name}", " ".join(map(str, cpus)))
        for n in cpus[1:] if vendor else cpus:
            self.files.link(f"{CPU}/cpu{n}/cpufreq", folder)
        return folder

    def _devfreq(self, name: str) -> str:
        folder = f"sys/devices/{name}/devfreq/{name}"
        self.files.link(f"sys/class/devfreq/{name}", folder)
        return folder

    def look(self) -> None:
        """Let the kernel's side see what was written."""
        for clock in self.clocks.values():
            clock.look(self.faults)

    def show_heat(self, temp_c: float, fan_duty: float) -> None:
        """What the thermal zones and the fan (0..1) show."""
        shown_c = HOT_C if "hot" in self.faults else temp_c
        for k in range(len(self._zones)):  # the first zone of a node is its hottest
            text = kernel_text(shown_c - min(k, 2), MILLI_C)
            self.files.put(f"sys/class/thermal/thermal_zone{k + 1}/temp", text)
        self.files.put("sys/class/hwmon/hwmon9/pwm1", str(round(255 * fan_duty)))

    def show_work(self, mean: Mapping[str, float], peak: Mapping[str, float], seconds: float) -> None:
        """What /proc/stat and the GPUs' load files show after `seconds` with these busy shares per unit.

        The counts are microseconds, a kernel's are hundredths of a second: what counts is their ratio, and in a
        hundredth a control interval of half a second has steps of 2 %.
        """
        for unit in self._model.units:
            if unit.kind == "gpu":
                self.files.put(self._real.gpu_load[unit.name][0], kernel_text(mean[unit.name], PERMILLE))
                continue
            own = self._model.cpus[unit.name]
            others = max(0.0, mean[unit.name] * len(own) - peak[unit.name]) / max(1, len(own) - 1)
            for k, n in enumerate(own):
                busy = round((others if k else peak[unit.name]) * seconds / MICROSECOND)
                self._ticks[n][0] += busy
                self._ticks[n][1] += round(seconds / MICROSECOND) - busy
        lines = [f"cpu{n} {busy} 0 0 {idle} 0 0 0 0 0 0" for n, (busy, idle) in self._ticks.items()]
        busy, idle = (sum(t[k] for t in self._ticks.values()) for k in (0, 1))
        self.files.put("proc/stat", "\n".join([f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0", *lines]))

    def show_power(self, watts: Mapping[str, float], seconds: float) -> None:
        """What the meters show at the end of `seconds` with this power per rail."""
        if "sensor_frozen" in self.faults:
            return
        for rail, power_w in watts.items():
            self._counted_j[rail] = (self._counted_j[rail] + power_w * seconds) % RAPL_RANGE_J
        total_w = sum(watts.values())
        for rail, (path, kind) in self._meters.items():
            power_w = total_w if rail == self._real.total_rail else watts[rail]
            if "sensor_gone" in self.faults:
                (self.files.root / path).unlink(missing_ok=True)
            elif broken := self.faults & {"sensor_garbage", "sensor_nan"}:
                self.files.put(path, "nan" if "sensor_nan" in broken else "g@rb4ge")
            elif kind == "sensor_W":
                folder = path.rpartition("/")[0]
                on = self.files.get(f"{folder}/enable") == "1"
                self.files.put(path, f"{power_w if on else 0.0:.6f}")
            else:
                self.files.put(path, _shown(kind, power_w, self._counted_j[rail]))


def _shown(kind: str, power_w: float, joules: float) -> str:
    if kind == "power1_input":
        return kernel_text(power_w, MICROWATT)
    if kind == "in_power":
        return kernel_text(power_w, MILLIWATT)
    return kernel_text(power_w / RAIL_V, MILLIAMPERE) if kind == "curr" else kernel_text(joules, MICROJOULE)


def _meters(files: Folder, model: BoardModel, real: RealModel) -> dict[str, tuple[str, str]]:
    """Write what does not move of the meters; per rail, the file that does and its kind."""
    window_s, vendor = model.sensor.window_s, real.kernel == "vendor"
    found = {}
    for k, (rail, name) in enumerate(reversed(real.rails.items())):  # channels are to be told apart by name
        if real.meter == "ina231" and vendor:
            folder, kind = f"sys/bus/i2c/drivers/INA231/3-{name}", "sensor_W"
            fixed = {"enable": "0", "update_period": f"{kernel_text(window_s, MICROSECOND)} usec"}
            path = f"{folder}/{kind}"
        elif real.meter == "ina231":
            folder, kind = f"sys/bus/i2c/devices/3-{name}/hwmon/hwmon{k}", "power1_input"
            fixed = {"name": "ina231", "update_interval": kernel_text(window_s, MILLISECOND)}
            path = f"{folder}/{kind}"
        elif real.meter == "ina3221" and vendor:
            folder, kind = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0", "in_power"
            fixed = {f"rail_name_{k}": name}
            path = f"{folder}/in_power{k}_input"
        elif real.meter == "ina3221":
            folder, kind = "sys/bus/i2c/drivers/ina3221/6-0040/hwmon/hwmon3", "curr"
            fixed = {f"in{k + 1}_label": name, f"in{k + 1}_input": kernel_text(RAIL_V, MILLIVOLT)}
            path = f"{folder}/curr{k + 1}_input"
        else:
            folder, kind = f"sys/class/powercap/intel-rapl:{k}", "energy_uj"
            fixed = {"name": name, "max_energy_range_uj": kernel_text(RAPL_RANGE_J, MICROJOULE)}
            path = f"{folder}/{kind}"
        for file, text in fixed.items():
            files.put(f"{folder}/{file}", text)
        files.put(path, "0.000000" if kind == "sensor_W" else "0")
        found[rail] = (path, kind)
    return found
