"""The reward of one control interval: five named terms, summed.

With e = (energy of the interval / frames) / energy budget, cut at 4:

| term | `min_energy` | `max_accuracy` |
|---|---|---|
| energy | -energy e | -over_budget max(0, e - 1) |
| deadline | -deadline missed / frames | the same |
| accuracy | -(breach [short > 0] + shortfall short) | that, + the rung's place between the ladder's ends |
| switching | -(rung + place + freq), each where it changed | the same |
| heat | -(hot max(0, temperature - 70 C) / 10 + throttled) | the same |

Every term is 0 or less, but for accuracy under `max_accuracy`, which is at most 1.
Frames are what arrived, at least 1: an interval without frames still pays for the energy it burnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hw.clip import ONE, ZERO, at_least, at_most
from hw.errors import InputError, Missing
from hw.types import GOALS, Demand, Profile, Telemetry

if TYPE_CHECKING:
    from hw.simulated.interval import Interval

TERMS = ("energy", "deadline", "accuracy", "switching", "heat")
# A shortfall of accuracy below this is rounding: 0.9 in single precision is 2e-8 away from 0.9, and one and
# the same rung must meet or breach its floor alike in the batched environment (float32) and on a board.
BREACH_TOLERANCE = 1e-6

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class RewardWeights:
    """What a unit of each thing costs; the unit of reward is one energy budget per frame.

    Raises InputError on a weight that is negative or not finite.
    """

    energy: float = 1.0  # the yardstick: a frame at its budget costs 1
    # Above accuracy's whole range (0..1): no rung is worth going 50 % over the budget
    over_budget: float = 2.0
    energy_cap: float = 4.0  # cut of e: an idle stretch with hardly a frame must not drown everything else
    # Missing every frame costs more than the worst energy term (4 or 6, at the cap), so racing beats giving
    # up; one percent of misses costs 12 % of the budget, more than a neighbouring frequency step saves
    deadline: float = 12.0
    # An interval on a rung below the floor costs two whole budgets, more than a smaller rung saves near the
    # budget; the slope says in which direction the way out lies (10 points short: another 1)
    breach: float = 2.0
    shortfall: float = 10.0
    # Tie-breakers: what a switch really costs, in time and energy, is already in the other terms. Moving
    # to other cores disturbs most, a frequency step least
    rung: float = 0.02
    place: float = 0.03
    freq: float = 0.01
    hot: float = 0.05  # per 10 K above hot_c: a hint before the trip point, too small to forbid short sprints
    hot_c: float = 70.0  # the first trip point of the XU3's mainline device tree
    throttled: float = 0.2  # the kernel took the clocks away: the controller has lost control

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"reward weight {f.name!r}, value {value!r}: must be a number of at least 0")


DEFAULT_WEIGHTS = RewardWeights()


def ladder_ends(profile: Profile) -> tuple[float, float]:
    """The lowest and the highest accuracy of the ladder (a trained ladder need not be monotone)."""
    accuracies = [rung.accuracy for rung in profile.rungs]
    return min(accuracies), max(accuracies)


@lru_cache
def _constants(weights: RewardWeights, dtype: type[np.floating[Any]]) -> SimpleNamespace:
    """The weights as arrays without dimensions: NumPy reckons with one faster than with a Python number."""
    numbers = {
        **vars(weights),
        "missing": -weights.deadline,
        "switching": (-weights.rung, -weights.place, -weights.freq),
        "warmth": -weights.hot / 10.0,
        "throttling": -weights.throttled,
        "less_for_accuracy": weights.energy - weights.over_budget,
        "tolerance": BREACH_TOLERANCE,
    }
    return SimpleNamespace(**{name: np.array(value, dtype) for name, value in numbers.items()})


def reward_terms(
    *,
    frames: npt.ArrayLike,
    missed: npt.ArrayLike,
    energy_j: npt.ArrayLike | None,
    energy_budget_j: npt.ArrayLike,
    accuracy: npt.ArrayLike,
    accuracy_min: npt.ArrayLike,
    accuracy_lo: npt.ArrayLike,
    accuracy_hi: npt.ArrayLike,
    goal: npt.ArrayLike,
    switched: npt.ArrayLike,
    temp_c: npt.ArrayLike,
    throttled: npt.ArrayLike,
    weights: RewardWeights = DEFAULT_WEIGHTS,
) -> dict[str, Array]:
    """The terms of n intervals by name (`TERMS`), each (n,); the reward is their sum.

    Scalars broadcast; a term whose inputs are all scalars is one.

    `energy_j` is the total over the metered rails (J), `accuracy` that of the rung in the profile,
    `accuracy_lo` and `accuracy_hi` the ladder's ends, `goal` an index into GOALS, `temp_c` the hottest node;
    `switched` (3,) or (3, n) says of rung, placement and any frequency whether it changed; flags are 0 or 1.
    The result is float32 where `energy_j` is, else float64.
    Raises Missing where a single interval has no energy reading (None or NaN); a NaN in an array stays one.
    """
    if energy_j is None or (np.ndim(energy_j) == 0 and math.isnan(float(np.asarray(energy_j)))):
        raise Missing("the reward needs a power meter, and this board gave no energy reading")
    energy_ = np.asarray(energy_j)
    dtype = np.float32 if energy_.dtype == np.float32 else np.float64

    def as_float(x: npt.ArrayLike) -> Any:
        # flags and counts times a Python float would be float64
        return np.asarray(x, dtype)

    w = _constants(weights, dtype)
    per_frame = ONE / at_least(as_float(frames), ONE)
    # flags are 0 or 1: arithmetic with them is exact, and faster than np.where
    wants_accuracy = as_float(goal)
    e = at_most(as_float(energy_) * per_frame / as_float(energy_budget_j), w.energy_cap)
    # one budget is free where accuracy is the goal, none where energy is
    weight = wants_accuracy * w.less_for_accuracy
    weight -= w.energy
    energy = at_least(e - wants_accuracy, ZERO) * weight

    accuracy_, low, high = as_float(accuracy), as_float(accuracy_lo), as_float(accuracy_hi)
    short = as_float(accuracy_min) - accuracy_
    fine = w.shortfall * short
    fine += w.breach
    fine *= short > w.tolerance
    span = high - low + (high <= low)  # a ladder of one rung has nothing to gain: 0 / 1
    gain = wants_accuracy * (accuracy_ - low) / span
    late = as_float(missed) * per_frame
    late *= w.missing
    warmth = at_least(as_float(temp_c) - w.hot_c, ZERO)
    warmth *= w.warmth

    return {
        "energy": energy,
        "deadline": late,
        "accuracy": gain - fine,
        "switching": w.switching @ as_float(switched),
        "heat": warmth + w.throttling * as_float(throttled),
    }


def lane_terms(
    interval: Interval,
    *,
    accuracy: npt.ArrayLike,
    energy_budget_j: npt.ArrayLike,
    accuracy_min: npt.ArrayLike,
    goal: npt.ArrayLike,
    ends: tuple[npt.ArrayLike, npt.ArrayLike],
    weights: RewardWeights = DEFAULT_WEIGHTS,
) -> dict[str, Array]:
    """The terms of an interval of n simulated boards, each (n,); `ends` as `ladder_ends` gives them."""
    return reward_terms(
        frames=interval.frames,
        missed=interval.missed,
        energy_j=np.add.reduce(interval.energy_j, axis=0),
        energy_budget_j=energy_budget_j,
        accuracy=accuracy,
        accuracy_min=accuracy_min,
        accuracy_lo=ends[0],
        accuracy_hi=ends[1],
        goal=goal,
        switched=interval.switched,
        temp_c=interval.temp_c,
        throttled=interval.throttled,
        weights=weights,
    )


def interval_terms(
    before: Telemetry,
    now: Telemetry,
    demand: Demand,
    profile: Profile,
    weights: RewardWeights = DEFAULT_WEIGHTS,
) -> dict[str, float]:
    """The terms of one board's interval, from its telemetry and the telemetry before it.

    In single precision, as the batched environment reckons. Raises Missing where the board has no power meter.
    """
    energy = now.energy_j
    low, high = ladder_ends(profile)
    old, new = before.granted, now.granted
    terms = reward_terms(
        frames=now.frames,
        missed=now.missed,
        energy_j=None if energy is None else np.float32(np.array(list(energy.values()), np.float32).sum()),
        energy_budget_j=demand.energy_budget_j,
        accuracy=profile.rung(new.rung).accuracy,
        accuracy_min=demand.accuracy_min,
        accuracy_lo=low,
        accuracy_hi=high,
        goal=GOALS.index(demand.goal),
        switched=[
            old.rung != new.rung,
            (old.unit, old.cores) != (new.unit, new.cores),
            dict(old.freqs_hz) != dict(new.freqs_hz),
        ],
        temp_c=max(now.temp_c.values(), default=-math.inf),
        throttled=now.throttled,
        weights=weights,
    )
    return {name: float(value) for name, value in terms.items()}
