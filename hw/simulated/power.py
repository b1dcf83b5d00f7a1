"""What n boards draw: a board file's power laws with their constants as arrays, rail by rail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw.boardmodel import BoardModel
from hw.clip import at_most, constant
from hw.simulated import physics
from hw.simulated.tables import K, Tables

F = NDArray[np.float32]

HOTTEST_C = constant(250.0)  # leakage grows no further: no chip is left


class Power:
    """The power laws of a board model; it holds no state."""

    def __init__(self, model: BoardModel, tables: Tables) -> None:
        self._tables, self._rails = tables, len(model.spec.rails)
        self._leakage = [
            (physics.leakage_arrhenius, constant(u.leak_activation_k))
            if u.leak_activation_k
            else (physics.leakage_exponential, constant(u.leak_per_k))
            for u in model.units
        ]
        of_units = [[[u.cluster_nf], [u.background_nf], [u.off_w]] for u in model.units]
        self._cluster_nf, self._core_nf, self._off_w = np.array(of_units, np.float32).swapaxes(0, 1).copy()
        # a cluster that never powers down; for others it is put off after every frame: share of the interval, per frame
        stays = np.array([[not u.powers_down] for u in model.units], np.float32)
        self._stays = stays if stays.any() else None
        self._nap = np.array([[min(u.off_after_s, 1e3) / model.spec.interval_s] for u in model.units], np.float32)
        per_gbps_w = sum(r.w_per_gbps for r in model.rails) or 1.0
        of_rails = [(r.base_w, r.w_per_gbps, r.w_per_gbps / per_gbps_w, r.per_k, r.active_w) for r in model.rails]
        self._others = [[constant(x) for x in rail] for rail in of_rails]

    def clocks(self, steps: K) -> F:
        """V^2 f (W per nF) and leakage (W at 50 C) of frequency indices (units, n): (2, units, n)."""
        return self._tables.power.take(steps + self._tables.power_start, axis=1, mode="clip")

    def powered(self, load: F, on_here: F, here: F, served: F) -> F:
        """Share of the interval in which each cluster is powered, (units, n).

        `load`: background, at most 1; `on_here`: the network, where it is (`here`, 0 or 1); `served` frames, (n,).
        """
        naps = self._nap * served
        naps *= here
        if self._stays is not None:
            naps += self._stays
        return physics.powered_share(load, on_here, naps)

    def draw(
        self,
        v2f: F,
        leak_w: F,
        temp_c: F,
        *,
        powered: F,
        background: F,
        network_w: F,
        peak: F,
        mem_gbps: F,
        network_mem_w: F,
    ) -> F:
        """Mean power of every rail (W), (rails, n): the units' own, then the others.

        By unit, (units, n): share in which it is `powered`, busy cores of `background`, the network's own W, busy
        share of its busiest core (`peak`). By board, (n,): background traffic, and what the network's traffic draws,
        on all rails together.
        """
        temp_c = at_most(temp_c, HOTTEST_C)
        watts = np.empty((self._rails, temp_c.shape[0]), np.float32)
        unit_w = watts[: len(v2f)]
        for u, (law, coefficient) in enumerate(self._leakage):
            np.multiply(leak_w[u], law(temp_c, coefficient), out=unit_w[u])
        unit_w += self._cluster_nf * v2f
        unit_w -= self._off_w
        unit_w *= powered
        unit_w += self._off_w
        core_w = self._core_nf * v2f
        core_w *= background
        unit_w += core_w
        unit_w += network_w
        for row, (base_w, w_per_gbps, of_all, per_k, active_w) in zip(watts[len(v2f) :], self._others, strict=True):
            row[:] = base_w
            if active_w:
                row += active_w * peak.max(axis=0)
            if w_per_gbps:
                row += w_per_gbps * mem_gbps
            if per_k:
                row *= physics.leakage_exponential(temp_c, per_k)
            if w_per_gbps:
                row += of_all * network_mem_w
        return watts
