"""A meter that is none: the power law of a host's board file, applied to how busy its cores were."""

from __future__ import annotations

from collections.abc import Sequence

from hw.boardfile import BoardModel
from hw.real.clocks import ClockDriver
from hw.real.sensors import Usage
from hw.real.sysfs import Sysfs

WINDOW_S = 0.1  # the kernel counts busy time in hundredths of a second
TEMP_C = 50.0  # at which its leakage holds


class ModelledSource:
    """A power source as `hw.real.meters` wants one: the idle law at the clock set, and `C V^2 f` per busy core."""

    window_s = WINDOW_S
    counts = True
    files: tuple[str, ...] = ()
    where = "modelled by the board file's power law, not measured"

    def __init__(
        self, sysfs: Sysfs, model: BoardModel, cpus: Sequence[int], clock: ClockDriver, *, slowed: bool
    ) -> None:
        """Of a board with one unit, on these CPUs. `slowed`: by a quota, so that a busy core is one at full speed."""
        self._unit, self._model, self._clock = model.units[0], model, clock
        self._counter = Usage(sysfs, {self._unit.name: cpus}, {})
        self._cores, self._slowed = len(cpus), slowed
        self._total_j = 0.0

    def start(self) -> None:
        """Nothing to switch on."""
        self._counter.shares()

    def joules(self, seconds: float) -> dict[str, float]:
        """Energy per rail over the `seconds` since the last call. Raises Flaky where the kernel does not answer."""
        mean, _ = self._counter.shares()
        hertz = self._clock.granted_hz()
        clock = self._model.spec.clocks[0]
        volts = clock.volts[clock.nearest(hertz)]
        watts = self._model.idle_rail_w({clock.name: hertz}, TEMP_C)
        busy = mean[self._unit.name] * self._cores
        speed_hz = clock.max_hz if self._slowed else hertz
        watts[self._unit.name] += self._unit.background_nf * 1e-9 * volts**2 * speed_hz * busy
        energy_j = {rail: power_w * seconds for rail, power_w in watts.items()}
        self._total_j += sum(energy_j.values())
        return energy_j

    def digits(self) -> tuple[float, ...]:
        """What it counted so far."""
        return (self._total_j,)
