"""CPU bandwidth quota of a cgroup as a clock, for machines whose real clock cannot be set.

A group of our own holds the worker; a "frequency" is the share of each of its cores that it may use, times a nominal
frequency. The kernel enforces it period by period and looks at its ticks only, so it slows a frame that lasts several
periods and not one that fits into the first. Measured with periods of 5 ms and ticks of 4 ms, one core at shares of
0.2 and 0.4: frames of 25 ms and more took 1 / share of their time within 5 % back to back and 6 % with pauses between
them, frames of 10 ms with pauses up to 27 % less.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from hw.errors import Flaky, Missing, Refused
from hw.real.cgroup import PREFIX, hierarchy, make_folder, remove_group, remove_left
from hw.real.guard import Pipes, end, start_remover
from hw.real.sysfs import MICROSECOND, Sysfs, kernel_text

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
REMOVING_S = 10.0  # the guard that removes the group where we are killed may take so long to end
PERIOD_S = 5e-3  # the kernel takes no quota below 1 ms: the lowest share of one core is that
FULL_PERIODS = 5  # a frame that lasts so many at full speed is slowed in proportion, within 5 % (measured)


class QuotaClock:
    """A clock made of a quota; `take` makes the group, `close` removes it.

    `adopt` puts a process into the group, `spread` says how many cores the quota is for.
    """

    def __init__(self, sysfs: Sysfs, nominal_hz: float) -> None:
        """Find the hierarchy. Raises Missing where no cgroup of this machine limits CPU time.

        `nominal_hz`: what the full share is called.
        """
        self._sysfs = sysfs
        self.kind, self._parent = hierarchy(sysfs)
        self._group = f"{self._parent}/{PREFIX}{os.getpid()}"
        self.freqs_hz = tuple(share * nominal_hz for share in SHARES)
        self._nominal_hz, self._share, self._cores = nominal_hz, 1.0, 1
        self._pids: set[int] = set()
        self._made = False
        self._guard: Pipes | None = None

    @property
    def cores(self) -> int:
        """How many cores the quota is for."""
        return self._cores

    @property
    def limit_hz(self) -> float:
        """The highest frequency that may be set now (Hz): no other program lowers it."""
        return self.freqs_hz[-1]

    def record(self) -> dict[str, str]:
        """What was found."""
        return {
            "path": self._group,
            "driver": f"CPU bandwidth quota, cgroup {self.kind}",
            "governor": "none",
            "set by": f"quota of a period of {PERIOD_S:g} s, per core of the worker",
        }

    @property
    def files(self) -> tuple[str, ...]:
        """Nothing that is there before `take`, which says what may not be written."""
        return ()

    def state(self) -> dict[str, str]:
        """Nothing: no file that was there before is changed, and the group goes with `close`."""
        return {}

    def close(self) -> None:
        """Remove the group; what runs in it runs on without a limit. Twice is fine; Flaky where it cannot be."""
        self._share = 1.0
        if self._made:
            remove_group(self._sysfs, self._group)
            self._made = False
        if self._guard is not None:
            end(self._guard, REMOVING_S)
            self._guard = None

    def take(self, low_hz: float, high_hz: float) -> None:
        """Make the group, once groups of dead processes are gone.

        Raises Refused without permission, naming the folder and what grants it, Missing where the kernel was built
        without bandwidth control.
        """
        if self._made:
            return
        remove_left(self._sysfs)
        folder = self._sysfs.path(self._group)
        try:
            make_folder(folder)
        except FileExistsError:
            pass
        except OSError as error:
            raise Refused(
                f"{folder}: no cgroup can be made there: {error.strerror}; run as root, or below: "
                "systemd-run --user --scope -p Delegate=yes"
            ) from None
        self._made = True
        if not self._sysfs.exists(self._file):
            self.close()
            want = "cgroup.subtree_control there must list cpu" if self.kind == "v2" else "CONFIG_CFS_BANDWIDTH"
            raise Missing(f"{self._sysfs.path(self._file)}: a group has no CPU quota here; {want}")
        self._guard = start_remover(self._sysfs, self._group)
        self._weigh()
        self._write()
        for pid in sorted(self._pids):
            self.adopt(pid)

    def hidden(self, high_hz: float) -> dict[str, str]:
        """Nothing: no file was there before."""
        return {}

    def adopt(self, pid: int) -> None:
        """Put a process and all its threads under the clock, now or as soon as it is taken; Flaky where it died."""
        self._pids = {p for p in self._pids if Path(f"/proc/{p}").exists()} | {pid}
        if self._made:
            try:
                self._sysfs.write(f"{self._group}/cgroup.procs", str(pid))
            except Refused:
                raise Flaky(f"{self._sysfs.path(self._group)}: process {pid} cannot be put there; it ended") from None

    def spread(self, cores: int) -> None:
        """The worker runs on so many cores from now on: each gets the share."""
        if cores != self._cores and cores >= 1:
            self._cores = cores
            if self._made:
                self._weigh()
                self._write()

    def set(self, freq_hz: float) -> float:
        """Set the nearest step; its frequency (Hz). Raises as `Sysfs.write`, Refused before `take`."""
        if not self._made:
            raise Refused("the quota is not taken yet, nothing can be set")
        share = min(SHARES, key=lambda s: abs(s * self._nominal_hz - freq_hz))
        if share != self._share:
            self._share = share
            self._write()
        return self.granted_hz()

    def granted_hz(self) -> float:
        """The step in force (Hz), read back from the kernel; Flaky where somebody else changed it to none of ours."""
        if not self._made:
            return self.freqs_hz[-1]
        period_s, quota_s = self._read()
        share = 1.0 if math.isinf(quota_s) else quota_s / period_s / self._cores
        near = min(SHARES, key=lambda s: abs(s - share))
        if abs(near - share) > 0.01:
            raise Flaky(f"{self._sysfs.path(self._file)}: {share:.3f} of a core, which is no step of this clock")
        return near * self._nominal_hz

    @property
    def _file(self) -> str:
        return f"{self._group}/{'cpu.max' if self.kind == 'v2' else 'cpu.cfs_quota_us'}"

    def _weigh(self) -> None:
        """Let each core's worth of the worker count as one task beside others, which is what a profile's board says.

        The kernel shares the weight of a group among the cores that it runs on.
        """
        name, task = ("cpu.weight", 100) if self.kind == "v2" else ("cpu.shares", 1024)
        self._sysfs.write(f"{self._group}/{name}", str(task * self._cores))

    def _write(self) -> None:
        period = kernel_text(PERIOD_S, MICROSECOND)
        full = self._share >= 1.0
        quota = kernel_text(self._share * self._cores * PERIOD_S, MICROSECOND)
        if self.kind == "v2":
            self._sysfs.write(self._file, f"{'max' if full else quota} {period}")
            return
        # the kernel looks at both together: no limit while the period changes
        if self._sysfs.read(f"{self._group}/cpu.cfs_period_us") != period:
            self._sysfs.write(self._file, "-1")
            self._sysfs.write(f"{self._group}/cpu.cfs_period_us", period)
        self._sysfs.write(self._file, "-1" if full else quota)

    def _read(self) -> tuple[float, float]:
        """Period and quota (s); infinity where there is no limit."""
        if self.kind == "v2":
            quota, _, period = self._sysfs.read(self._file).partition(" ")
            return float(period) * MICROSECOND, math.inf if quota == "max" else float(quota) * MICROSECOND
        quota_s = self._sysfs.number(self._file, MICROSECOND)
        return self._sysfs.number(f"{self._group}/cpu.cfs_period_us", MICROSECOND), math.inf if quota_s < 0 else quota_s
