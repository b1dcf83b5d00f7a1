"""A machine's power sources, found by what the board file says of them and told apart by address or name.

Source                files                                                     energy
INA231, vendor        drivers/INA231/*-0040/{sensor_W, enable, update_period}   W, integrated
INA231, mainline      devices/*-0040/hwmon/hwmon*/{power1_input, ...}           uW, integrated
INA3221, L4T          drivers/ina3221x/*/iio:device*/{rail_name_N, ...}         mW, integrated
INA3221, mainline     drivers/ina3221/*/hwmon/hwmon*/{inN_label, ...}           mV times mA, integrated
RAPL                  class/powercap/*-rapl:*/{name, energy_uj, ...}            uJ, counted; wraps around
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hw.errors import Flaky, Missing
from hw.real.sysfs import (
    MICROJOULE,
    MICROSECOND,
    MICROWATT,
    MILLIAMPERE,
    MILLISECOND,
    MILLIVOLT,
    MILLIWATT,
    WATT,
    Sysfs,
)

I2C = "sys/bus/i2c"
INA231_WINDOW_S = {"vendor": 0.263808, "mainline": 0.0352}  # 16 averages of 8.244 + 8.244 ms; of 2.2 ms
INA3221_WINDOW_S = 0.0538  # 64 samples of 280 us on each of 3 channels
RAPL_WINDOW_S = 0.05  # the counter moves every millisecond; so often is enough for it not to wrap twice
MAX_W = 100.0  # of a rail of such a board: more is a broken reading
RAPL_MAX_W = 1000.0  # of a processor with a counter: more is a counter that began anew (a machine that was suspended)
NOISE_W = 0.1  # a rail that is off may show a little less than nothing


class Source(Protocol):
    """A power source. `files` are those it changes when it starts, `where` is for the record."""

    window_s: float  # what one value averages (s); reading faster shows the same again
    counts: bool  # energy, so that nothing is lost in a gap
    files: tuple[str, ...]
    where: str

    def start(self) -> None:
        """Switch it on."""
        ...

    def joules(self, seconds: float) -> dict[str, float]:
        """Energy per rail since the last call, `seconds` ago. Raises BoardError where it does not answer."""
        ...

    def digits(self) -> tuple[float, ...]:
        """The last values as they were read."""
        ...


class _Watts:
    """A source of power values: each stands for the time since the one before it."""

    window_s: float
    counts = False
    files: tuple[str, ...] = ()

    def __init__(self, sysfs: Sysfs, where: str) -> None:
        self._sysfs, self.where = sysfs, where
        self._last: dict[str, float] = {}

    def start(self) -> None:
        """Switch it on."""
        for path in self.files:
            self._sysfs.write(path, "1")

    def joules(self, seconds: float) -> dict[str, float]:
        """Energy per rail since the last call; Flaky for a value that no rail of such a board draws."""
        watts = self.watts()
        for rail, power_w in watts.items():
            if not -NOISE_W <= power_w <= MAX_W:
                raise Flaky(f"{self.where}: rail {rail} says {power_w:g} W")
        self._last = watts
        return {rail: max(0.0, power_w) * seconds for rail, power_w in watts.items()}

    def watts(self) -> dict[str, float]:
        """Power per rail (W)."""
        raise NotImplementedError

    def digits(self) -> tuple[float, ...]:
        """The last values as they were read."""
        return tuple(self._last.values())


class INA231(_Watts):
    """A chip per rail, told apart by their bus addresses."""

    def __init__(self, sysfs: Sysfs, rails: Mapping[str, str]) -> None:
        """Find a chip for every rail. Raises Missing where one is not there."""
        self._files: dict[str, str] = {}
        enables = []
        for rail, address in rails.items():
            vendor = sysfs.find(f"{I2C}/drivers/INA231/*-{address}/sensor_W")
            hwmon = sysfs.find(f"{I2C}/devices/*-{address}/hwmon/hwmon*/power1_input")
            if not vendor and not hwmon:
                raise Missing(f"{sysfs.path(I2C)}: no INA231 at address {address} for rail {rail}")
            self._files[rail] = (vendor or hwmon)[0]
            if vendor:
                enables.append(vendor[0].replace("sensor_W", "enable"))
        first = next(iter(self._files.values()))
        super().__init__(sysfs, first)
        self.files = tuple(enables)
        self._unit = WATT if enables else MICROWATT
        self.window_s = self._window(first)

    def watts(self) -> dict[str, float]:
        """Power per rail (W)."""
        return {rail: self._sysfs.number(path, self._unit) for rail, path in self._files.items()}

    def _window(self, first: str) -> float:
        folder = first.rpartition("/")[0]
        for name, unit in (("update_interval", MILLISECOND), ("update_period", MICROSECOND)):
            path = f"{folder}/{name}"
            if self._sysfs.exists(path):
                return self._sysfs.numbers(path, unit)[0] if unit == MILLISECOND else self._period(path)
        return INA231_WINDOW_S["vendor" if self.files else "mainline"]

    def _period(self, path: str) -> float:
        text = self._sysfs.read(path).split()  # "263808 usec"
        return int(text[0]) * MICROSECOND if text and text[0].isdigit() else INA231_WINDOW_S["vendor"]


class INA3221(_Watts):
    """Three channels on one chip, told apart by their names."""

    window_s = INA3221_WINDOW_S

    def __init__(self, sysfs: Sysfs, rails: Mapping[str, str], total_rail: str) -> None:
        """Find a channel for every rail. Raises Missing where one is not there.

        `total_rail`: its channel counts all the others too, which are taken off it.
        """
        self._total = total_rail
        found: dict[str, tuple[tuple[str, float], ...]] = {}  # name -> files whose product is the power
        for label in sysfs.find(f"{I2C}/drivers/ina3221x/*/iio:device*/rail_name_*"):
            power = label.replace("rail_name_", "in_power") + "_input"
            found[sysfs.read(label)] = ((power, MILLIWATT),)
        for label in sysfs.find(f"{I2C}/drivers/ina3221/*/hwmon/hwmon*/in*_label"):
            volts = label.replace("_label", "_input")
            folder, _, name = volts.rpartition("/")
            amperes = f"{folder}/{name.replace('in', 'curr', 1)}"
            found.setdefault(sysfs.read(label), ((volts, MILLIVOLT), (amperes, MILLIAMPERE)))
        for rail, name in rails.items():
            if name not in found:
                seen = f"found {', '.join(sorted(found)) or 'none'}"
                raise Missing(f"{sysfs.path(I2C)}: no INA3221 channel {name} for rail {rail}; {seen}")
        self._files = {rail: found[name] for rail, name in rails.items()}
        super().__init__(sysfs, next(iter(self._files.values()))[0][0])

    def watts(self) -> dict[str, float]:
        """Power per rail (W)."""
        watts = {}
        for rail, factors in self._files.items():
            watts[rail] = 1.0
            for path, unit in factors:
                watts[rail] *= self._sysfs.number(path, unit)
        if self._total:
            parts = sum(power_w for rail, power_w in watts.items() if rail != self._total)
            # channels are not read at the same instant: after a step the parts may be above the total for a moment
            watts[self._total] = max(0.0, watts[self._total] - parts)
        return watts


class RAPL:
    """Energy counters of x86, told apart by the names of their zones (`package-0`, `dram`)."""

    window_s = RAPL_WINDOW_S
    counts = True
    files: tuple[str, ...] = ()

    def __init__(self, sysfs: Sysfs, rails: Mapping[str, str]) -> None:
        """Find a zone for every rail. Raises Missing where one is not there, Refused without permission to read it."""
        self._sysfs = sysfs
        names = sysfs.find("sys/class/powercap/*-rapl:*/name")
        found = {sysfs.read(path): path.rpartition("/")[0] for path in reversed(names)}
        for rail, name in rails.items():
            if name not in found:
                seen = f"found {', '.join(sorted(found)) or 'none'}"
                raise Missing(f"{sysfs.path('sys/class/powercap')}: no zone {name} for rail {rail}; {seen}")
        self._folders = {rail: found[name] for rail, name in rails.items()}
        self.where = next(iter(self._folders.values()))
        self._range_j = {r: sysfs.number(f"{f}/max_energy_range_uj", MICROJOULE) for r, f in self._folders.items()}
        self._last = self._count()

    def start(self) -> None:
        """It counts always."""
        self._last = self._count()

    def joules(self, seconds: float) -> dict[str, float]:
        """Energy per rail since the last call; Flaky where a counter began anew: what it had counted is lost."""
        now, before = self._count(), self._last
        self._last = now
        most_j = RAPL_MAX_W * max(seconds, self.window_s)  # it counts in steps: of a moment it says too much
        energy_j = {}
        for rail, count_j in now.items():
            gone_j = count_j - before[rail]
            energy_j[rail] = gone_j if gone_j >= 0 else gone_j + self._range_j[rail]
            if energy_j[rail] > most_j:
                raise Flaky(f"{self._folders[rail]}: rail {rail} says {energy_j[rail]:g} J in {seconds:g} s")
        return energy_j

    def digits(self) -> tuple[float, ...]:
        """The last counts."""
        return tuple(self._last.values())

    def _count(self) -> dict[str, float]:
        return {r: self._sysfs.number(f"{folder}/energy_uj", MICROJOULE) for r, folder in self._folders.items()}
