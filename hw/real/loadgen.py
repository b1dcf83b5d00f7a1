"""Background load on a real machine, pinned to the cores of its unit: busy cores, shares of one, memory traffic.

Whole cores are stress-ng's where it is installed, else burners of our own. Shares of a core are always a burner's:
asked for half of a core that it has to share, stress-ng 0.15 took 30 % (measured), because it reckons in time that
passes and not in time that it gets. Memory traffic is a burner's too, which moves it within the core that it takes;
stress-ng's would take another core. So is a share of a GPU (`hw.real.gpuburner`). Everything ends with us, also after
a kill -9.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence

from hw.errors import Flaky, Refused
from hw.real.guard import Pipes, end, start_guarded, start_python
from hw.types import Load

STRESS_NG = "stress-ng"
SMALLEST = 1e-3  # of a core, or GB/s: less is none
MOST_GBPS = 1e3
ENDING_S = 5.0  # a program and its children have so long
START_S = 30.0  # a GPU's load on a slow board

_Stress = tuple[int, *tuple[str, ...]]  # which of several alike, and the words of one stress-ng


class _Burner:
    """A burner's process, and what it was told last."""

    def __init__(self, process: Pipes) -> None:
        self._process, self._told = process, ""

    def tell(self, told: str) -> None:
        """From now on; Flaky where the process died."""
        if self._process.poll() is not None:
            raise Flaky(f"a load process died (status {self._process.returncode})")
        if told != self._told and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # the next call finds it dead
                os.write(self._process.stdin.fileno(), f"{told}\n".encode())
            self._told = told

    def end(self) -> None:
        """End it."""
        end(self._process)


def _on_cpus(cpus: Sequence[int]) -> _Burner:
    """An idle `hw.real.burner` on these CPUs; Refused where none may run there."""
    process = start_python(["-m", "hw.real.burner"])
    try:
        os.sched_setaffinity(process.pid, cpus)
    except OSError as error:
        end(process)
        raise Refused(f"cores {_listed(cpus)}: no load can be put there: {error.strerror}") from None
    return _Burner(process)


def _on_gpu(unit: str) -> _Burner:
    """An idle `hw.real.gpuburner`, ready; Refused where something is missing for it, Flaky where it does not start."""
    # ncnn and drivers list the device on standard error
    process = start_python(["-m", "hw.real.gpuburner"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        heard = select.select([process.stdout], [], [], START_S)[0]
        said = process.stdout.readline().decode().strip() if heard else ""
        if not said:
            raise Flaky(f"load on {unit!r}: its process did not start")
        if said != "ready":
            raise Refused(f"load on {unit!r}: {said}")
    except BaseException:
        end(process)
        raise
    return _Burner(process)


class ProcessLoad:
    """Load from processes; see `hw.real.interfaces.LoadGenerator`."""

    def __init__(self, cpus: Mapping[str, Sequence[int]], *, gpu: str = "", stress_ng: bool | None = None) -> None:
        """`cpus` of every CPU unit. `gpu`: the unit that is a GPU. `stress_ng`: use it (None: where it is installed).

        Raises Refused where it is asked for and not installed.
        """
        self._cpus = {unit: tuple(numbers) for unit, numbers in cpus.items()}
        self._gpu = gpu
        self._program = None if stress_ng is False else shutil.which(STRESS_NG)
        if stress_ng and self._program is None:
            raise Refused(f"{STRESS_NG} is not installed; install its package, or do without it")
        self._burners: dict[str, list[_Burner]] = {}
        self._stress: dict[_Stress, Pipes] = {}
        self._ending: list[Pipes] = []
        self._closed = False

    @property
    def told(self) -> str:
        """What makes the load, for a record."""
        ours = "own burners"
        return ours if self._program is None else f"{STRESS_NG}; memory traffic and shares of a core by {ours}"

    def prepare(self, loads: Iterable[Load]) -> None:
        """Start a GPU's load, idle, where one of these has some: Vulkan takes seconds, which no flight waits for.

        Raises Refused where something is missing for it, Flaky where it does not start.
        """
        if any(load.busy.get(self._gpu, 0.0) >= SMALLEST for load in loads):
            self._gpu_burners()

    def set(self, load: Load) -> None:
        """From now on this load and no other. The first on a GPU takes seconds, where `prepare` did not see to it.

        Memory traffic counts bytes read and written; where no core is to be busy it costs a share of one besides. The
        ambient temperature is nobody's to set. Raises Refused where a unit is unknown, cannot be loaded or has fewer
        cores, Flaky where a load ended by itself.
        """
        if self._closed:
            raise Refused("the load generator is closed")
        cores = {name: len(cpus) for name, cpus in self._cpus.items()} | ({self._gpu: 1} if self._gpu else {})
        for unit, busy in load.busy.items():
            if not busy:
                continue
            if unit not in cores:
                known = ", ".join(cores) or "none"
                raise Refused(f"load on {unit!r}: nothing here loads that unit; units that can be: {known}")
            if not 0.0 <= busy <= cores[unit]:
                raise Refused(f"load of {busy!r} cores on {unit!r}, which has {cores[unit]}")
        if not 0.0 <= load.mem_gbps <= MOST_GBPS:
            raise Refused(f"memory traffic of {load.mem_gbps!r} GB/s: want 0 to {MOST_GBPS:g}")
        try:
            self._set(load)
        except Flaky:
            self._end_all()
            raise

    def close(self) -> None:
        """End every load; twice is fine."""
        self._closed = True
        self._end_all()

    def _set(self, load: Load) -> None:
        self._burn_gpu(load.busy.get(self._gpu, 0.0))  # first: it may be refused, and nothing has changed then
        wanted: set[_Stress] = set()
        gbps = load.mem_gbps if load.mem_gbps >= SMALLEST else 0.0
        first = next(iter(self._cpus), None)
        for unit, cpus in self._cpus.items():
            whole, share = divmod(load.busy.get(unit, 0.0), 1.0)
            memory = gbps if unit == first else 0.0
            # whoever moves memory does so within the core that it takes
            own = int(whole) if self._program is None else min(int(whole), 1 if memory else 0)
            shares = [1.0] * own + ([share] if share >= SMALLEST else [])
            for k in range(own, int(whole)):  # a process each: the kernel shares one's weight among its children
                wanted.add((k, "--cpu", "1", "--cpu-method", "int64", "--taskset", _listed(cpus)))
            self._burn(unit, shares, memory)
        self._stress_with(wanted)

    def _burn_gpu(self, share: float) -> None:
        share = share if share >= SMALLEST else 0.0
        for burner in self._gpu_burners() if share else self._burners.get(self._gpu, []):
            burner.tell(f"{share:.4f}")

    def _gpu_burners(self) -> list[_Burner]:
        """The one that burns there, started where there is none."""
        burners = self._burners.setdefault(self._gpu, [])
        if not burners:
            burners.append(_on_gpu(self._gpu))
        return burners

    def _burn(self, unit: str, shares: Sequence[float], gbps: float) -> None:
        burners = self._burners.setdefault(unit, [])
        while len(burners) < max(len(shares), 1 if gbps else 0):
            burners.append(_on_cpus(self._cpus[unit]))
        for k, burner in enumerate(burners):
            burner.tell(f"{shares[k] if k < len(shares) else 0.0:.4f} {gbps if k == 0 else 0.0:.4f}")

    def _stress_with(self, wanted: Collection[_Stress]) -> None:
        for key in [w for w, process in self._stress.items() if w not in wanted or process.poll() is not None]:
            process = self._stress.pop(key)
            status = process.poll()
            assert process.stdin is not None
            process.stdin.close()  # takes it a moment, which a controller need not wait for
            self._ending = [p for p in (*self._ending, process) if p.poll() is None]
            if status is not None:
                raise Flaky(f"{STRESS_NG} {' '.join(key[1:])} ended by itself (status {status})")
        for key in [w for w in wanted if w not in self._stress]:
            assert self._program is not None
            self._stress[key] = start_guarded([self._program, *key[1:], "--quiet", "--timeout", "0"])

    def _end_all(self) -> None:
        for process in (*self._stress.values(), *self._ending):
            end(process, ENDING_S)
        for burner in [b for burners in self._burners.values() for b in burners]:
            burner.end()
        self._stress, self._ending, self._burners = {}, [], {}


def _listed(cpus: Sequence[int]) -> str:
    return ",".join(map(str, cpus))
