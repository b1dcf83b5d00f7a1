"""Drivers of one clock each: cpufreq and devfreq, by their files; nothing is written before `take`.

A file that is not as expected shows in `record()`, a frequency that is not as asked in what `set` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hw.errors import Missing, Refused
from hw.real.sysfs import HZ, KHZ, Sysfs, kernel_text

CPUFREQ = "sys/devices/system/cpu"
DEVFREQ = ("sys/class/devfreq/{0}", "sys/devices/{0}/devfreq/{0}", "sys/devices/platform/host1x/{0}/devfreq/{0}")
SETTLE_S = 1e-3  # a regulator and a PLL need about as long (0.5-2 ms)
SETTLE_TIMES = 3  # then what is there is what was granted


class ClockDriver(Protocol):
    """One clock of a machine."""

    @property
    def freqs_hz(self) -> tuple[float, ...]:
        """The frequencies that the kernel lists, ascending."""
        ...

    @property
    def limit_hz(self) -> float:
        """The highest frequency that may be set now."""
        ...

    def record(self) -> dict[str, str]:
        """What was found: path, driver, governor, how it is set, which writes were not taken as they were."""
        ...

    def state(self) -> dict[str, str]:
        """Every file that this driver may change, with its text."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that this driver writes; those of `state` and more, as some have no text before."""
        ...

    def take(self, low_hz: float, high_hz: float) -> None:
        """Take the clock over from the kernel, for frequencies within these bounds; Refused where it will not."""
        ...

    def hidden(self, high_hz: float) -> dict[str, str]:
        """Files of `state` whose own text the kernel hides, with what is to be put back in its place.

        Asked once the clock is taken; `high_hz` as in `take`.
        """
        ...

    def set(self, freq_hz: float) -> float:
        """Set a frequency of the table; the one that was granted (Hz)."""
        ...

    def granted_hz(self) -> float:
        """The frequency of the table that is nearest to the one in force."""
        ...


class _MinMax:
    """A clock between a lowest and a highest file; both drivers stand on it."""

    def __init__(
        self, sysfs: Sysfs, folder: str, names: tuple[str, str, str], unit: float, sleep: Callable[[float], None]
    ) -> None:
        """`names`: of the lowest, the highest and the present frequency; `unit` is that of all three."""
        self.sysfs, self.folder, self._unit, self._sleep = sysfs, folder, unit, sleep
        self._min, self._max, self._cur = (f"{folder}/{name}" for name in names)
        self._asked_hz = 0.0
        self._found_hz: float | None = None  # what the highest limit showed when it was saved
        self._not_taken: dict[str, str] = {}
        self.freqs_hz: tuple[float, ...] = ()

    @property
    def limit_hz(self) -> float:
        """The highest frequency that may be set now (Hz)."""
        return self.sysfs.number(self._max, self._unit)

    @property
    def files(self) -> tuple[str, ...]:
        """The two limits."""
        return (self._min, self._max)

    def state(self) -> dict[str, str]:
        """The two limits."""
        self._found_hz = self.limit_hz
        return {path: self.sysfs.read(path) for path in (self._min, self._max)}

    def hidden(self, high_hz: float) -> dict[str, str]:
        """The highest limit, where a hot kernel shows its own cap in its place.

        The file shows the lower of the two, and nothing shows what was set. Where `high_hz` is written and the file
        shows no more than before, it is the cap that stands there, and what was set is anything above: `high_hz`, which
        is what boards are at that nobody lowered. Put back, the cap would stay when the board is cool.
        """
        found_hz = self._found_hz
        if found_hz is None or found_hz >= high_hz:
            return {}
        text = kernel_text(high_hz, self._unit)
        self.sysfs.write(self._max, text)
        self._sleep(SETTLE_S)
        return {self._max: text} if self.limit_hz <= found_hz else {}

    def granted_hz(self) -> float:
        """The frequency of the table that is nearest to the one in force (Hz)."""
        now_hz = self.sysfs.number(self._cur, self._unit)
        return min(self.freqs_hz, key=lambda f: abs(f - now_hz))

    def set(self, freq_hz: float) -> float:
        """Set a frequency of the table; the one that was granted (Hz).

        Raises Refused without permission, Flaky where the kernel does not answer.
        """
        granted_hz = self.granted_hz()
        if freq_hz == self._asked_hz and granted_hz == freq_hz:
            return granted_hz
        self._asked_hz = freq_hz
        self._set(freq_hz)
        for _ in range(SETTLE_TIMES):
            granted_hz = self.granted_hz()
            if granted_hz == freq_hz:
                break
            self._sleep(SETTLE_S)
        return granted_hz

    def _set(self, freq_hz: float) -> None:
        self._limits(freq_hz, freq_hz)

    def _limits(self, low_hz: float, high_hz: float) -> None:
        """Both limits, in the order in which the lowest is never above the highest."""
        order = [(self._min, low_hz), (self._max, high_hz)]
        if low_hz > self.limit_hz:
            order.reverse()
        for path, hertz in order:
            self._put(path, kernel_text(hertz, self._unit))

    def _put(self, path: str, text: str) -> None:
        self.sysfs.write(path, text)
        shown = self.sysfs.read(path)
        self._not_taken.pop(path, None)
        if shown != text:
            self._not_taken[path] = f"wrote {text}, shows {shown}"


class Cpufreq(_MinMax):
    """The clock of a CPU: governor `userspace` where the kernel has it, else both limits at one frequency."""

    def __init__(self, sysfs: Sysfs, cpu: int, sleep: Callable[[float], None]) -> None:
        """Find the policy of `cpu`. Raises Missing where the kernel has none or lists no frequencies."""
        folder = _cpufreq_folder(sysfs, cpu)
        super().__init__(sysfs, folder, ("scaling_min_freq", "scaling_max_freq", "scaling_cur_freq"), KHZ, sleep)
        self._governor, self._speed = f"{folder}/scaling_governor", f"{folder}/scaling_setspeed"
        self.freqs_hz = self._table()
        governors = f"{folder}/scaling_available_governors"
        listed = sysfs.read(governors).split() if sysfs.exists(governors) else []
        self._userspace = "userspace" in listed and sysfs.exists(self._speed)

    def record(self) -> dict[str, str]:
        """What was found."""
        driver = f"{self.folder}/scaling_driver"
        return {
            "path": self.folder,
            "driver": self.sysfs.read(driver) if self.sysfs.exists(driver) else "unknown",
            "governor": self.sysfs.read(self._governor),
            "set by": "scaling_setspeed" if self._userspace else "limits",
            **self._not_taken,
        }

    @property
    def files(self) -> tuple[str, ...]:
        """Governor, limits and speed; the limits alone where they do it."""
        limits = super().files
        return (self._governor, *limits, self._speed) if self._userspace else limits

    def state(self) -> dict[str, str]:
        """Governor and limits; the speed too where a person had set it."""
        governor = self.sysfs.read(self._governor)
        speed = {self._speed: self.sysfs.read(self._speed)} if governor == "userspace" else {}
        return {self._governor: governor, **super().state(), **speed}

    def take(self, low_hz: float, high_hz: float) -> None:
        """Take the clock over from the governor; Refused where the kernel keeps it."""
        if not self._userspace:
            return  # the limits do it, whatever the governor
        self._put(self._governor, "userspace")
        if self._governor in self._not_taken:
            raise Refused(f"{self.sysfs.path(self._governor)}: {self._not_taken[self._governor]}")
        self._limits(low_hz, high_hz)

    def _set(self, freq_hz: float) -> None:
        if self._userspace:
            self._put(self._speed, kernel_text(freq_hz, KHZ))
        else:
            super()._set(freq_hz)

    def _table(self) -> tuple[float, ...]:
        listed, counted = f"{self.folder}/scaling_available_frequencies", f"{self.folder}/stats/time_in_state"
        if self.sysfs.exists(listed):
            return tuple(sorted(self.sysfs.numbers(listed, KHZ)))
        if self.sysfs.exists(counted):  # drivers without a list still count the time at each frequency
            return tuple(sorted(self.sysfs.numbers(counted, KHZ)[::2]))
        raise Missing(f"{self.sysfs.path(self.folder)}: this kernel lists no frequencies, so none can be set")


class Devfreq(_MinMax):
    """The clock of a device, as a GPU: both limits at one frequency; its governor is left alone."""

    def __init__(self, sysfs: Sysfs, names: Sequence[str], sleep: Callable[[float], None]) -> None:
        """Find the device by one of its names. Raises Missing where there is none."""
        folders = [place.format(name) for name in names for place in DEVFREQ]
        folder = next((f for f in folders if sysfs.exists(f)), None)
        if folder is None:
            raise Missing(f"no devfreq device {' or '.join(names)}: looked for {sysfs.path(folders[0])}")
        super().__init__(sysfs, folder, ("min_freq", "max_freq", "cur_freq"), HZ, sleep)
        self.freqs_hz = tuple(sorted(sysfs.numbers(f"{folder}/available_frequencies", HZ)))

    def record(self) -> dict[str, str]:
        """What was found."""
        governor = self.sysfs.read(f"{self.folder}/governor")
        return {"path": self.folder, "governor": governor, "set by": "limits", **self._not_taken}

    def take(self, low_hz: float, high_hz: float) -> None:
        """Nothing to take: the limits do it, whatever the governor."""


def _cpufreq_folder(sysfs: Sysfs, cpu: int) -> str:
    """The policy of a CPU: a folder of its own since Linux 4.3, before that one beside its first CPU."""
    for folder in sysfs.find(f"{CPUFREQ}/cpufreq/policy*"):
        for name in ("related_cpus", "affected_cpus"):
            path = f"{folder}/{name}"
            if sysfs.exists(path) and str(cpu) in sysfs.read(path).split():
                return folder
    folder = f"{CPUFREQ}/cpu{cpu}/cpufreq"
    if not sysfs.exists(f"{folder}/scaling_governor"):
        raise Missing(f"{sysfs.path(folder)}: this kernel has no cpufreq for cpu{cpu}, so its clock cannot be set")
    return folder
