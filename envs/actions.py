"""What an action means: the knobs a learner turns, as numbers, and which of them an accuracy floor leaves it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from envs.reward import BREACH_TOLERANCE
from hw.errors import InputError
from hw.types import BoardSpec, Demand, Knobs

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
ActionView = Literal["multi", "flat"]


class ActionSpace:
    """The actions of a board with a ladder.

    `nvec` is [rungs, placements, steps of each clock] (view "multi") or [operating points] (view "flat": the
    profile's points, the other clocks at their lowest).
    """

    def __init__(self, spec: BoardSpec, accuracy: list[float], action_view: ActionView) -> None:
        self.spec, self.accuracy, self.action_view = spec, accuracy, action_view
        self._accuracy = np.array(accuracy, np.float32)
        self._steps = [len(c.freqs_hz) for c in spec.clocks]
        self._clock_row = {c.name: 2 + i for i, c in enumerate(spec.clocks)}
        self._placements = spec.placements
        self.flat_points = self._flat_points()
        self._flat_rung = self.flat_points[0]
        sizes = [len(accuracy), len(self._placements), *self._steps]
        self.nvec: list[int] = [self.flat_points.shape[1]] if action_view == "flat" else sizes
        self._sizes = np.array(self.nvec, np.uintp)  # of one board, or of as many as there were last

    def indices(self, actions: npt.NDArray[np.integer[Any]]) -> Ints:
        """Actions of n boards, (n, len(nvec)) or (n,) when flat, as (2 + clocks, n) knob indices.

        Raises InputError where one is outside the action space.
        """
        flat = self.action_view == "flat"
        rows = np.asarray(actions)
        if flat and rows.ndim < 2:
            rows = rows.reshape(-1, 1)
        if rows.ndim != 2 or rows.shape[1] != len(self.nvec):
            raise InputError(f"actions of shape {rows.shape} are outside the action space {self.nvec}")
        rows = np.ascontiguousarray(rows, np.intp)
        if self._sizes.size != rows.size:
            self._sizes = np.tile(np.array(self.nvec, np.uintp), len(rows))
        # without a sign, a negative one is very large; in one line, for numpy is slow along rows of a few numbers
        outside = rows.reshape(-1).view(np.uintp) >= self._sizes
        if outside.any():
            action = rows[outside.argmax() // len(self.nvec)].tolist()
            raise InputError(f"action {action} is outside the action space {self.nvec}")
        return np.asarray(self.flat_points.take(rows[:, 0], axis=1)) if flat else rows.T

    def knobs(self, action: npt.ArrayLike) -> Knobs:
        """The knobs an action means; InputError where it is outside the action space."""
        values = np.atleast_1d(np.asarray(action))
        if values.shape != (len(self.nvec),):
            raise InputError(f"action {values.tolist()} is outside the action space {self.nvec}")
        column = self.indices(values[None])[:, 0].tolist()
        unit, cores = self._placements[column[1]]
        freqs = {c.name: c.freqs_hz[i] for c, i in zip(self.spec.clocks, column[2:], strict=True)}
        return Knobs(rung=column[0] + 1, unit=unit, cores=cores, freqs_hz=freqs)

    def knob_indices(self, knobs: Knobs) -> Ints:
        """(2 + clocks, 1) indices of knobs, frequencies to the nearest step."""
        steps = [c.nearest(knobs.freqs_hz[c.name]) for c in self.spec.clocks]
        column = [knobs.rung - 1, self._placements.index((knobs.unit, knobs.cores)), *steps]
        return np.array(column, np.intp)[:, None]

    def rung_mask(self, accuracy_min: Floats) -> npt.NDArray[np.bool_]:
        """(n, rungs): the rungs that meet the floor; the most accurate one where none does."""
        meets = self._accuracy + np.float32(BREACH_TOLERANCE) >= np.asarray(accuracy_min, np.float32)[:, None]
        meets[:, int(self._accuracy.argmax())] |= ~meets.any(axis=1)
        return np.asarray(meets)

    def masks(self, accuracy_min: Floats) -> npt.NDArray[np.bool_]:
        """Legal actions of n boards, (n, sum(nvec)): rungs that breach the floor are barred."""
        rungs = self.rung_mask(accuracy_min)
        if self.action_view == "flat":
            return np.asarray(rungs.take(self._flat_rung, axis=1))
        rest = np.ones((rungs.shape[0], sum(self.nvec) - rungs.shape[1]), np.bool_)
        return np.concatenate([rungs, rest], axis=1)

    def action_masks(self, demand: Demand) -> npt.NDArray[np.bool_]:
        """Legal actions under one demand, (sum(nvec),)."""
        return np.asarray(self.masks(np.array([demand.accuracy_min], np.float32))[0])

    def _flat_points(self) -> Ints:
        """(2 + clocks, points) knob indices of the operating points, in canonical order."""
        columns = []
        for rung in range(len(self.accuracy)):
            for place, (unit, _) in enumerate(self._placements):
                clock = self.spec.unit(unit).clock
                for step in range(len(self.spec.clock(clock).freqs_hz)):
                    column = [rung, place] + [0] * len(self._steps)
                    column[self._clock_row[clock]] = step
                    columns.append(column)
        return np.array(columns, np.intp).T.copy()
