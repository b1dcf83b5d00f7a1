"""A meter that is none: the power law of a host's board file, applied to how busy its cores were."""

from __future__ import annotations

from hw.boardmodel import BoardModel
from hw.real.clocks import ClockDriver
from hw.real.sensors import Usage

WINDOW_S = 0.1  # the kernel counts busy time in hundredths of a second
TEMP_C = 50.0  # at which its leakage holds


class ModelledSource:
    """A power source as `hw.real.meters` wants one: the idle law at the clock set, and `C V^2 f` per busy core."""

    window_s = WINDOW_S
    counts = True
    files: tuple[str, ...] = ()
    where = "modelled by the board file's power law, not measured"

    def __init__(self, model: BoardModel, usage: Usage, clock: ClockDriver) -> None:
        """Of a board with one unit, whose cores are as busy as `usage` says, which nobody else asks."""
        self._unit, self._model, self._clock = model.units[0], model, clock
        self._usage, self._cores = usage, model.spec.units[0].cores
        self._total_j = 0.0

    def start(self) -> None:
        """Nothing to switch on."""
        self._usage.shares()

    def joules(self, seconds: float) -> dict[str, float]:
        """Energy per rail over the `seconds` since the last call. Raises Flaky where the kernel does not answer."""
        mean, _ = self._usage.shares()
        hertz = self._clock.granted_hz()
        clock = self._model.spec.clocks[0]
        volts = clock.volts[clock.nearest(hertz)]
        watts = self._model.idle_rail_w({clock.name: hertz}, TEMP_C)
        busy = mean[self._unit.name] * self._cores
        watts[self._unit.name] += self._unit.background_nf * 1e-9 * volts**2 * hertz * busy
        energy_j = {rail: power_w * seconds for rail, power_w in watts.items()}
        self._total_j += sum(energy_j.values())
        return energy_j

    def digits(self) -> tuple[float, ...]:
        """What it counted so far."""
        return (self._total_j,)
