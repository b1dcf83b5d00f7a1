"""A clock as its kernel keeps it, for an emulated board: files that take, refuse, round and cap what is written.

A plain file takes any text, so what a kernel refuses at once (EINVAL) shows here a moment later: the file has its old
text again. What a kernel rounds, caps or clamps shows in the file as the kernel would show it: the limits show what is
in force, the lower of what was written and of the thermal governor's cap, and what was written holds again without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hw.real.sysfs import HZ, KHZ, kernel_text
from hw.types import Clock

GOVERNORS = ("conservative", "ondemand", "userspace", "powersave", "performance", "schedutil")
_DEVFREQ = ("min_freq", "max_freq", "cur_freq")


class Folder:
    """A folder of files that others read while they are written: whole texts, never half of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[str] = set()

    def put(self, path: str, text: str) -> None:
        """Make this the text of the file."""
        target = f"{self.root}/{path}"
        folder, _, name = target.rpartition("/")
        if folder not in self._made:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        temporary = f"{folder}/.{name}.new"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)
        Path(temporary).replace(target)

    def get(self, path: str) -> str:
        """The text of the file; empty while somebody writes it, or where somebody removed it."""
        try:
            handle = os.open(f"{self.root}/{path}", os.O_RDONLY)
        except FileNotFoundError:
            return ""
        text = os.read(handle, 4096).decode(errors="replace")
        os.close(handle)
        return text.strip()

    def link(self, path: str, to: str) -> None:
        """A symbolic link, as /sys has them."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(os.path.relpath(self.root / to, (self.root / path).parent))


class KernelClock:
    """A clock as its kernel keeps it: limits, governor, frequency in force; `look` does what the files ask."""

    def __init__(
        self, files: Folder, clock: Clock, folder: str, *, is_cpu: bool, governor: str, stall_s: float
    ) -> None:
        self._files, self._clock, self._folder = files, clock, folder
        self._unit = KHZ if is_cpu else HZ
        self._is_cpu = is_cpu
        low, high = (kernel_text(f, self._unit) for f in (clock.freqs_hz[0], clock.max_hz))
        names = ("scaling_min_freq", "scaling_max_freq", "scaling_cur_freq") if is_cpu else _DEVFREQ
        self._min, self._max, self._cur = names
        self._shown = {self._min: low, self._max: high, self._cur: low}
        self._limits_hz = {self._min: clock.freqs_hz[0], self._max: clock.max_hz}  # as they were written
        self.freq_hz = self._speed_hz = clock.freqs_hz[0]
        self.cap_hz = clock.max_hz  # of the thermal governor
        self.busy = 0.0  # of the busiest core in the interval before; what the kernel's own governor goes by
        listed = " ".join(kernel_text(f, self._unit) for f in clock.freqs_hz)
        if is_cpu:
            self._shown |= {"scaling_governor": governor, "scaling_setspeed": "<unsupported>", "cpuinfo_cur_freq": low}
            fixed = {
                "cpuinfo_min_freq": low,
                "cpuinfo_max_freq": high,
                "cpuinfo_transition_latency": str(round(stall_s * 1e9)),
                "scaling_available_frequencies": listed,
                "scaling_available_governors": " ".join(GOVERNORS),
                "scaling_driver": "emulated",
            }
        else:
            fixed = {"available_frequencies": listed, "governor": governor, "available_governors": governor}
        for name, text in (self._shown | fixed).items():
            files.put(f"{folder}/{name}", text)

    def look(self, faults: set[str]) -> None:
        """Take what was written, refuse what cannot be, and show what is in force."""
        asked = {name: self._files.get(f"{self._folder}/{name}") for name in self._shown}
        self._governor(asked)
        self._limits(asked)
        self._speed(asked)
        wanted_hz = self._snapped(self._wanted_hz())
        if "clock_snapped" in faults:
            wanted_hz = self._clock.freqs_hz[max(0, self._clock.nearest(wanted_hz) - 1)]
        if "clock_stuck" not in faults:
            self.freq_hz = min(wanted_hz, self._capped())
        self._show(asked)

    def _governor(self, asked: Mapping[str, str]) -> None:
        before, now = self._shown.get("scaling_governor"), asked.get("scaling_governor")
        if now in GOVERNORS and now != before:
            self._shown["scaling_governor"] = now
            self._speed_hz = self.freq_hz

    def _limits(self, asked: Mapping[str, str]) -> None:
        written = {n: self._hertz(asked[n], hz) for n, hz in self._limits_hz.items() if asked[n] != self._shown[n]}
        limits_hz = self._limits_hz | written
        if limits_hz[self._min] <= limits_hz[self._max]:
            self._limits_hz = limits_hz
        for name, hertz in self._limits_hz.items():
            self._shown[name] = kernel_text(min(hertz, self._capped()), self._unit)

    def _speed(self, asked: Mapping[str, str]) -> None:
        if self._shown.get("scaling_governor") == "userspace":
            text = asked["scaling_setspeed"]
            if text != self._shown["scaling_setspeed"]:
                self._speed_hz = self._hertz(text, self._speed_hz)

    def _hertz(self, text: str, before_hz: float) -> float:
        """What a text asks for, within the hardware's limits; what was there before where it is no number."""
        hertz = int(text) * self._unit if text.isdigit() else before_hz
        return min(max(hertz, self._clock.freqs_hz[0]), self._clock.max_hz)

    def _wanted_hz(self) -> float:
        governor = self._shown.get("scaling_governor", "")
        if governor == "userspace":
            return self._speed_hz
        if governor in ("performance", "powersave"):
            return self._clock.max_hz if governor == "performance" else 0.0
        return 1.25 * self.busy * self._clock.max_hz  # the other governors, roughly: a quarter in hand

    def _snapped(self, hertz: float) -> float:
        """The lowest frequency of the table that is not below, within the limits."""
        low, high = (int(self._shown[name]) * self._unit for name in (self._min, self._max))
        hertz = min(max(hertz, low), high)
        found = self._clock.freqs_hz[self._clock.at_least(hertz)]
        below = [f for f in self._clock.freqs_hz if f <= high]
        return found if found <= high or not below else below[-1]

    def _capped(self) -> float:
        return max(f for f in self._clock.freqs_hz if f <= max(self.cap_hz, self._clock.freqs_hz[0]))

    def _show(self, asked: Mapping[str, str]) -> None:
        now = kernel_text(self.freq_hz, self._unit)
        self._shown[self._cur] = now
        if self._is_cpu:
            userspace = self._shown["scaling_governor"] == "userspace"
            self._shown |= {"cpuinfo_cur_freq": now, "scaling_setspeed": now if userspace else "<unsupported>"}
        for name, text in self._shown.items():
            if asked[name] not in (text, ""):  # empty: somebody is about to write it
                self._files.put(f"{self._folder}/{name}", text)
