"""Heat of n boards: two thermal stages to the hottest sensor, a fan and the kernel's caps, each with a hysteresis."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import BoardModel
from hw.clip import constant
from hw.simulated import physics
from hw.simulated.tables import DECAYS, RESISTANCES, STAGES, K, Tables

F = NDArray[np.float32]
I = NDArray[np.intp]  # noqa: E741
IDLE_C = 45.0  # temperature at which a board waits for work
_NO_LANES: I = np.zeros(0, np.intp)


class Heat:
    """The thermal state of n boards; `reset` brings any of them to its start."""

    def __init__(self, model: BoardModel, tables: Tables, n: int) -> None:
        thermal, spec = model.thermal, model.spec
        self._tables = tables
        self._spot = [u.name for u in spec.units].index(thermal.spot_unit) if thermal.spot_unit else None
        self._spot_nf = constant(thermal.spot_nf)
        rest_w = model.rest_rail_w({c.name: c.freqs_hz[0] for c in spec.clocks}, IDLE_C)
        spot_w = 0.0
        if self._spot is not None:
            v2f = tables.power[0, tables.power_start[self._spot, 0]]
            spot_w = min(rest_w[thermal.spot_unit], float(self._spot_nf * v2f))
        by_fan = tables.thermal[:, :: tables.caps.shape[1]]  # without a cap
        *_, offset_k, _, _, spot_k_per_w, _, _ = by_fan
        gained_k = by_fan[STAGES] * np.float32(sum(rest_w.values()))
        gained_k[0] += spot_k_per_w * np.float32(spot_w)
        gained_k[1] += offset_k
        self._rest_k = gained_k / (1 - by_fan[DECAYS])  # (2, fan levels): of both stages without work
        trips_c = np.array([*thermal.fan_trips_c, np.inf], np.float32)
        self._enough_c = trips_c - self._rest_k.sum(axis=0)  # (fan levels,): below this ambient a level is enough
        self._kelvins = np.zeros((2, n), np.float32)  # of both stages above the ambient
        self._levels = np.zeros((2, n), np.uint8)  # of the fan and of the kernel's caps
        self._hot = False  # whether there is a cap anywhere
        self._law = np.zeros((len(tables.thermal), n), np.float32)  # what the levels mean, see `Tables.thermal`
        self._fresh = _NO_LANES  # boards just reset: how warm they are is the first interval's ambient to say

    def reset(self, lanes: I) -> None:
        """Bring these boards to their start: at rest, as warm as `start` will find them."""
        self._fresh = np.union1d(self._fresh, lanes)

    def start(self, ambient_c: F, scale: F) -> None:
        """Before every interval: boards just reset have stood at its ambient (deg C), (n,), and had nothing to do.

        `scale`, (n,), here and in `warm`: factors of the boards' resistances; they count when a level is set.
        """
        lanes = self._fresh
        if lanes.size:
            levels, kelvins = self.at_rest(ambient_c.take(lanes))
            self._levels = self._levels.copy()  # what was handed out keeps what it holds
            self._settle(lanes, levels, scale)
            self._kelvins[:, lanes] = kelvins
            self._fresh = _NO_LANES

    def at_rest(self, ambient_c: F) -> tuple[NDArray[np.uint8], F]:
        """Levels and warmth over the ambient (K), each (2, k), of nominal boards without work, the fan at its least."""
        fan = (ambient_c[:, None] < self._enough_c).argmax(axis=1)
        kelvins = self._rest_k.take(fan, axis=1)
        still = np.zeros((2, fan.size), np.uint8)
        levels = physics.hysteresis(still, ambient_c + kelvins.sum(axis=0), self._tables.trips)
        levels[0] = fan
        return levels, kelvins

    def fork(self, lanes: I) -> Heat:
        """Boards in the state of these lanes, (n,)."""
        twin = copy.copy(self)
        twin._fresh = np.isin(lanes, self._fresh).nonzero()[0] if self._fresh.size else _NO_LANES
        for name in ("_kelvins", "_levels", "_law"):
            setattr(twin, name, getattr(self, name).take(lanes, axis=1))
        return twin

    @property
    def fan(self) -> NDArray[np.uint8]:
        """The fans' levels, (n,)."""
        levels: NDArray[np.uint8] = self._levels[0]
        return levels

    def temperature(self, ambient_c: F) -> F:
        """Of the hottest sensor (deg C), (n,), exactly."""
        temp_c: F = ambient_c + self._kelvins[0]
        temp_c += self._kelvins[1]
        return temp_c

    def cap(self, steps: K) -> NDArray[np.bool_]:
        """Lower frequency indices (clocks, n) to the kernel's caps, in place; whom that throttled, (n,)."""
        if not self._hot:
            return np.zeros(steps.shape[1], np.bool_)
        limit = self._tables.caps.take(self._levels[1], axis=1, mode="clip")
        throttled = np.logical_or.reduce(steps > limit, axis=0)
        np.minimum(steps, limit, out=steps)
        return np.asarray(throttled)

    def warm(self, watts: F, v2f: F, ambient_c: F, scale: F) -> F:
        """One interval at these powers (W), (rails, n), and V^2 f, (units, n); the temperature at its end."""
        *_, offset_k, _, _, spot_k_per_w, calm_from_c, calm_to_c = self._law
        gained_k = self._law[STAGES] * np.add.reduce(watts, axis=0)
        if self._spot is not None:
            spot_w = self._spot_nf * v2f[self._spot]
            np.minimum(spot_w, watts[self._spot], out=spot_w)
            spot_w *= spot_k_per_w
            gained_k[0] += spot_w
        gained_k[1] += offset_k
        self._kelvins = physics.relax(self._kelvins, gained_k, self._law[DECAYS])
        temp_c = self.temperature(ambient_c)
        turned = ((temp_c < calm_from_c) | (temp_c >= calm_to_c)).nonzero()[0]
        if turned.size:
            now = physics.hysteresis(self._levels.take(turned, axis=1), temp_c.take(turned), self._tables.trips)
            self._levels = self._levels.copy()
            self._settle(turned, now, scale)
        return temp_c

    def _settle(self, lanes: I, levels: NDArray[np.uint8], scale: F) -> None:
        """Bring these lanes' fans and caps to their levels (2, lanes), and what follows from them."""
        fan, cap = levels
        law = self._tables.thermal.take(fan * self._tables.caps.shape[1] + cap, axis=1)
        law[RESISTANCES] *= scale.take(lanes)
        # row by row is faster than all rows at once
        for row, level in zip(self._levels, levels, strict=True):
            row[lanes] = level
        for parameter, value in zip(self._law, law, strict=True):
            parameter[lanes] = value
        self._hot = bool(self._levels[1].max())
