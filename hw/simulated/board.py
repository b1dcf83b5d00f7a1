"""SimBoard: the n = 1 view of the simulator behind the Board interface."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import BoardModel
from hw.errors import Refused
from hw.knobs import check_knobs
from hw.simulated.interval import Interval
from hw.simulated.sensor import rails_error_j
from hw.simulated.simulator import Simulator
from hw.types import AMBIENT_C, DEADLINE_S, MEM_GBPS, RATE_HZ, Demand, Knobs, Load, Profile, Telemetry

F = NDArray[np.float32]
I = NDArray[np.intp]  # noqa: E741


class SimBoard:
    """One simulated board; `simulator` is there for whoever may look ahead or into the exact record."""

    def __init__(self, model: BoardModel, profile: Profile, *, vary: bool = False) -> None:
        """A board at its start, seeded with 0 until `reset`; `vary`: another one of its model at every reset."""
        self.spec, self.profile = model.spec, profile
        self.simulator = Simulator(model, profile, 1, vary=vary)
        self.exact_energy_j: Mapping[str, float] = {}
        self._last: Telemetry | None = None

    def reset(self, *, seed: int | None = None) -> Telemetry:
        """Bring the board to its start; None goes on with the generator it has."""
        self.simulator.reset([0], seeds=[seed])
        self.exact_energy_j = {}
        self._last = idle_telemetry(self.simulator)
        return self._last

    def inject(self, load: Load) -> None:
        """Background work from now on; Refused where the board has no such unit or fewer cores.

        Also for memory traffic or an ambient temperature out of bounds.
        """
        busy = np.zeros((len(self.spec.units), 1), np.float32)
        for name, cores in load.busy.items():
            row = next((i for i, u in enumerate(self.spec.units) if u.name == name), None)
            if row is None or not 0 <= cores <= self.spec.units[row].cores:
                raise Refused(f"load {cores!r} on {name!r}: {self.spec.name} has no such unit with that many cores")
            busy[row] = cores
        _check("memory traffic", load.mem_gbps, MEM_GBPS, "GB/s")
        _check("ambient temperature", load.ambient_c, AMBIENT_C, "deg C")
        self.simulator.inject(busy, np.array([load.mem_gbps], np.float32), np.array([load.ambient_c], np.float32))

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        """Set, serve one interval, read; Refused for a rung, unit or core count the board does not have.

        Also for a rate or a deadline out of bounds: a rate of 0 among them, for its next frame is never due.

        A frequency between two steps is granted as the nearest one, as the kernel does.
        """
        indices = knob_indices(knobs, self.spec.placements, self)
        _check("rate", demand.rate_hz, RATE_HZ, "Hz")
        _check("deadline", demand.deadline_s, DEADLINE_S, "s")
        interval = self.simulator.step(
            indices, np.array([demand.rate_hz], np.float32), np.array([demand.deadline_s], np.float32)
        )
        seconds = self.spec.interval_s
        self.exact_energy_j = dict(zip(self.spec.rails, (interval.exact_power_w[:, 0] * seconds).tolist(), strict=True))
        self._last = lane_telemetry(self.simulator, interval, knobs, self._last)
        return self._last

    def close(self) -> None:
        """Nothing to restore."""


def _check(what: str, value: float, bounds: tuple[float, float], unit: str) -> None:
    """Refused where a value is out of its bounds, or NaN."""
    low, high = bounds
    if not low <= value <= high:
        raise Refused(f"{what} of {value!r} {unit}: a simulated board takes {low:g} to {high:g} {unit}")


def knob_indices(knobs: Knobs, placements: tuple[tuple[str, int], ...], board: SimBoard) -> I:
    """(2 + clocks, 1) indices of these knobs; Refused where the board or the ladder has no such thing."""
    spec = board.spec
    check_knobs(knobs, spec, len(board.profile.rungs))
    steps = [c.nearest(knobs.freqs_hz[c.name]) for c in spec.clocks]
    return np.array([[knobs.rung - 1], [placements.index((knobs.unit, knobs.cores))], *([s] for s in steps)], np.intp)


def knobs_of(simulator: Simulator, column: I) -> Knobs:
    """Knobs from a (2 + clocks,) column of indices."""
    spec = simulator.model.spec
    unit, cores = spec.placements[column[1]]
    freqs = {c.name: c.freqs_hz[column[2 + i]] for i, c in enumerate(spec.clocks)}
    return Knobs(rung=int(column[0]) + 1, unit=unit, cores=cores, freqs_hz=freqs)


def _known(value: float) -> float | None:
    return None if value != value else value


def lane_telemetry(simulator: Simulator, interval: Interval, asked: Knobs, before: Telemetry | None) -> Telemetry:
    """What a controller of the first lane sees of the interval; `before` is what it saw of the one before."""
    lane, spec = 0, simulator.model.spec
    granted = knobs_of(simulator, interval.granted[:, lane])
    energy_j = dict(zip(spec.rails, interval.energy_j[:, lane].tolist(), strict=True))
    units = [u.name for u in spec.units]
    return Telemetry(
        interval_s=spec.interval_s,
        asked=asked,
        granted=granted,
        frames=int(interval.frames[lane]),
        served=int(interval.served[lane]),
        missed=int(interval.missed[lane]),
        dropped=int(interval.dropped[lane]),
        latency_mean_s=_known(float(interval.latency_mean_s[lane])),
        latency_p95_s=_known(float(interval.latency_p95_s[lane])),
        accuracy=_known(float(simulator.accuracy(interval)[lane])),
        labelled=int(interval.served[lane]),
        confidence=None,
        profile_accuracy=simulator.profile.rung(granted.rung).accuracy,
        energy_j=energy_j,
        temp_c=dict.fromkeys(spec.thermal_nodes, float(interval.temp_c[lane])),
        utilisation=dict(zip(units, interval.utilisation[:, lane].tolist(), strict=True)),
        peak_utilisation=dict(zip(units, interval.peak_utilisation[:, lane].tolist(), strict=True)),
        throttled=bool(interval.throttled[lane]),
        switched=bool(interval.switched[:, lane].any()),
        sensor_age_s=simulator.model.sensor.window_s,
        energy_error_j=_energy_error_j(simulator.model, energy_j, before),
    )


def _energy_error_j(model: BoardModel, energy_j: Mapping[str, float], before: Telemetry | None) -> float:
    """Standard error of an interval's energy over all rails; at rest where nothing was read before."""
    meter = model.sensor
    earlier = before.energy_j if before is not None and before.energy_j is not None else energy_j
    return rails_error_j(
        energy_j,
        earlier,
        window_s=meter.window_s,
        step_w=meter.step_w,
        gain_std=meter.gain_std,
        interval_s=model.spec.interval_s,
    )


def idle_telemetry(simulator: Simulator) -> Telemetry:
    """What a board just reset shows: nothing arrived, nothing was served."""
    spec, model = simulator.model.spec, simulator.model
    knobs = knobs_of(simulator, simulator.granted[:, 0])
    temp_c = simulator.start_temp_c
    energy_j = dict(zip(spec.rails, (simulator.start_w * spec.interval_s).tolist(), strict=True))
    return Telemetry(
        interval_s=spec.interval_s,
        asked=knobs,
        granted=knobs,
        frames=0,
        served=0,
        missed=0,
        dropped=0,
        latency_mean_s=None,
        latency_p95_s=None,
        accuracy=None,
        labelled=0,
        confidence=None,
        profile_accuracy=simulator.profile.rung(knobs.rung).accuracy,
        energy_j=energy_j,
        temp_c=dict.fromkeys(spec.thermal_nodes, temp_c),
        utilisation={u.name: 0.0 for u in spec.units},
        peak_utilisation={u.name: 0.0 for u in spec.units},
        throttled=False,
        switched=False,
        sensor_age_s=model.sensor.window_s,
        energy_error_j=_energy_error_j(model, energy_j, None),
    )
