"""Whether this machine is the board of its file: its CPUs, and the frequencies of its clocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hw.errors import Refused
from hw.real.clocks import ClockDriver
from hw.real.sysfs import Sysfs, in_mhz
from hw.types import Clock

ONLINE = "sys/devices/system/cpu/online"
PRESENT = "sys/devices/system/cpu/present"


def check_present(sysfs: Sysfs, board: str, cpus: Mapping[str, Sequence[int]]) -> None:
    """Refused where this machine does not have the CPUs of that board's units."""
    present = _numbers(sysfs, PRESENT)
    named = {n for numbers in cpus.values() for n in numbers}
    if present is not None and not named <= present:
        raise Refused(f"this machine has {len(present)} CPUs, {board} needs {max(named) + 1}")


def check_online(sysfs: Sysfs, cpus: Mapping[str, Sequence[int]]) -> None:
    """Refused where one of these CPUs, by unit, is off."""
    there = _numbers(sysfs, ONLINE)
    for unit, numbers in cpus.items():
        for n in numbers:
            if there is not None and n not in there:
                where = sysfs.path(f"sys/devices/system/cpu/cpu{n}/online")
                raise Refused(f"cpu{n} of unit {unit!r} is off; sudo sh -c 'echo 1 > {where}'")


def check_table(clock: Clock, driver: ClockDriver, file: str) -> None:
    """Refused where the kernel's frequencies, all of them or those below its limit, are not the board file's."""
    kernel, limit_hz = driver.freqs_hz, driver.limit_hz
    within = tuple(f for f in kernel if f <= limit_hz)
    if any(_same(clock.freqs_hz, table) for table in (kernel, within)):
        return
    mine, others = in_mhz(clock.freqs_hz), in_mhz(kernel)
    raise Refused(
        f"clock {clock.name!r} is not the one of {file}: this kernel lists {others} MHz, the file {mine} MHz; "
        "a policy holds for one table only"
    )


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(one, other, strict=True))


def _numbers(sysfs: Sysfs, path: str) -> set[int] | None:
    """A list of CPUs as the kernel writes it, `0-3,6`; None where there is no such file."""
    if not sysfs.exists(path):
        return None
    found: set[int] = set()
    for part in sysfs.read(path).split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            found |= set(range(int(low), int(high or low) + 1))
    return found
