"""What a machine says of its heat and its work: thermal zones by type, busy shares from /proc/stat, a GPU's load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hw.errors import BoardError, Flaky, Missing
from hw.real.sysfs import MILLI_C, PERMILLE, Sysfs

THERMAL = "sys/class/thermal"
STAT = "proc/stat"
TEMP_C = (-40.0, 150.0)  # outside: a broken sensor
TRIES = 3
_IDLE = (3, 4)  # idle and waiting for a disk, of user nice system idle iowait irq softirq steal
_COUNTED = 8  # the two after these (guests) are in user and nice already


class Zones:
    """The thermal zones of each node, found by their types: their numbers change from kernel to kernel."""

    def __init__(self, sysfs: Sysfs, types: Mapping[str, Sequence[str]]) -> None:
        """Find them. Raises Missing where a node has none."""
        self._sysfs = sysfs
        found: dict[str, list[str]] = {}  # a machine of two processors has two of a type
        for path in sysfs.find(f"{THERMAL}/thermal_zone*/type"):
            found.setdefault(sysfs.read(path), []).append(f"{path.rpartition('/')[0]}/temp")
        self.paths = {node: [file for t in kinds for file in found.get(t, [])] for node, kinds in types.items()}
        for node, paths in self.paths.items():
            if not paths:
                seen = f"found {', '.join(sorted(found)) or 'none'}"
                raise Missing(f"{sysfs.path(THERMAL)}: no zone of type {' or '.join(types[node])} for {node!r}; {seen}")

    def temps_c(self) -> dict[str, float]:
        """Temperature of every node (deg C), its hottest zone's. Raises Flaky where no zone of one answers."""
        return {node: self._hottest(paths) for node, paths in self.paths.items()}

    def _hottest(self, paths: Sequence[str]) -> float:
        temps, trouble = [], ""
        for path in paths:
            for _ in range(TRIES):
                try:
                    temp_c = self._sysfs.number(path, MILLI_C)
                except BoardError as error:
                    trouble = str(error)
                    continue
                if TEMP_C[0] <= temp_c <= TEMP_C[1]:
                    temps.append(temp_c)
                    break
                trouble = f"{self._sysfs.path(path)}: {temp_c:g} C is no temperature of a board"
        if not temps:
            raise Flaky(trouble)
        return max(temps)


class Usage:
    """How busy the units were between two looks."""

    def __init__(self, sysfs: Sysfs, cpus: Mapping[str, Sequence[int]], gpu_load: Mapping[str, Sequence[str]]) -> None:
        """`cpus`: per CPU unit; `gpu_load`: per GPU, files one of which has its load.

        Raises Missing where a CPU or a GPU's file is not there.
        """
        self._sysfs, self._cpus = sysfs, cpus
        self._gpu_load = {}
        for unit, paths in gpu_load.items():
            there = [path for path in paths if sysfs.exists(path)]
            if not there:
                raise Missing(f"{sysfs.path(paths[0])}: there is no such file, so the load of {unit!r} is unknown")
            self._gpu_load[unit] = there[0]
        self._before = self._counts()

    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """Per unit, since the last call: mean busy share of its cores, and that of the busiest one, 0..1.

        A GPU's is what the kernel says of the moment. Raises Flaky where a file does not answer.
        """
        now = self._counts()
        mean, peak = {}, {}
        for unit, cpus in self._cpus.items():
            shares = []
            for n in cpus:
                busy, total = (a - b for a, b in zip(now[n], self._before[n], strict=True))
                shares.append(min(max(busy / total, 0.0), 1.0) if total > 0 else 0.0)
            mean[unit], peak[unit] = sum(shares) / len(shares), max(shares)
        for unit, path in self._gpu_load.items():
            mean[unit] = peak[unit] = min(max(self._sysfs.number(path, PERMILLE), 0.0), 1.0)
        self._before = now
        return mean, peak

    def _counts(self) -> dict[int, tuple[int, int]]:
        """Per CPU, time busy and time in all, in whatever the kernel counts."""
        counts = {}
        for line in self._sysfs.read(STAT).splitlines():
            name, *words = line.split()
            if name.startswith("cpu") and name != "cpu" and all(w.isdigit() for w in words):
                times = [int(w) for w in words[:_COUNTED]]
                total = sum(times)
                counts[int(name.removeprefix("cpu"))] = (total - sum(times[k] for k in _IDLE), total)
        for n in (n for cpus in self._cpus.values() for n in cpus):
            if n not in counts:
                raise Flaky(f"{self._sysfs.path(STAT)}: no line for cpu{n}")
        return counts


def fans(sysfs: Sysfs) -> dict[str, str]:
    """The fans' duties as the kernel shows them (of 255); they are read, never written."""
    found = {}
    for path in [*sysfs.find("sys/class/hwmon/hwmon*/pwm1"), *sysfs.find("sys/devices/pwm-fan/cur_pwm")]:
        try:
            found[path] = sysfs.read(path)
        except BoardError as error:
            found[path] = str(error)
    return found
