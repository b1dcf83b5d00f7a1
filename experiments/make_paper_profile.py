"""Builds `hw/profiles/xu3-paper.csv`: the four-group AlexNet of two papers on the Odroid XU3, as a model.

The papers: Xun, Tran-Thanh, Al-Hashimi, Merrett, "Incremental Training and Group Convolution Pruning for
Runtime DNN Performance Scaling on Heterogeneous Embedded Platforms", MLCAD 2019, and "Optimising Resource
Management for Embedded Machine Learning", DATE 2020. No board stood behind this file: the rows of the table
are recalled, not read. What is the papers' and what is this model's own stands in `HOW`, for the sidecar.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from hw.boardfile import BoardModel, load_board
from hw.errors import PowerbandError
from hw.profile import grid, profile_path, save_profile
from hw.types import OperatingPoint, Profile, Rung

HOW = (
    "Built by experiments/make_paper_profile.py; nothing was measured. "
    "Full network on one core: t = a + b/f and power = idle law of the board at 50 C + p0 + C V^2 f, "
    "both fitted per cluster to the three recalled rows of the DATE 2020 table. "
    "Rungs: 2.73x in time and 2.36x in energy from 100 % to 25 % (MLCAD 2019), linear in the groups, "
    "the same at every point. "
    "Extrapolated beyond the papers' levels: a15 at 1.9 and 2.0 GHz, a7 at 1.4 GHz. "
    "Assumed: more than one core by Amdahl's law (parallel share 0.90 on a15, 0.87 on a7), with power above "
    "idle in proportion to the mean number of busy cores; latency deviation 2 % of the mean and normal, so "
    "p95 = mean + 1.645 std; memory rail at its idle base; the other cluster and the GPU idle, clocks at "
    "their lowest. Accuracies are recalled and were not checked."
)
WHEN = "2026-11-21"

# recalled DATE 2020 table, the 100 % network on one core: GHz -> (s, W, J)
TABLE: dict[str, dict[float, tuple[float, float, float]]] = {
    "a15": {0.2: (1.020, 0.326, 0.320), 1.0: (0.204, 0.846, 0.173), 1.8: (0.117, 2.120, 0.248)},
    "a7": {0.2: (1.780, 0.0724, 0.129), 0.7: (0.504, 0.141, 0.0714), 1.3: (0.280, 0.329, 0.0921)},
}
LATENCY_LAW = {"a15": (0.004, 0.203), "a7": (0.007, 0.355)}  # a (s), b (s GHz): fits the table within 2.1 %
PARALLEL = {"a15": 0.90, "a7": 0.87}  # Amdahl; the a15 figure is assumed, the a7 one from two sister boards
TIME_RANGE, ENERGY_RANGE = 2.73, 2.36  # 100 % over 25 % of the network, MLCAD 2019
LADDER = (("25%", 0.560), ("50%", 0.627), ("75%", 0.688), ("100%", 0.712))  # top-1 on CIFAR-10, recalled
DEVIATION, P95_SIGMAS = 0.02, 1.645
DIGITS = 6  # significant; more would only look exact


def single_core_s(unit: str, freq_hz: float) -> float:
    """Latency of the 100 % network on one core: `a + b/f`."""
    a, b = LATENCY_LAW[unit]
    return a + b / (freq_hz / 1e9)


def busy_cores(unit: str, cores: int) -> float:
    """Amdahl's speed-up on `cores` cores, which is also how many of them are busy on average."""
    p = PARALLEL[unit]
    return 1.0 / ((1.0 - p) + p / cores)


def share(rung: int, full_over_smallest: float) -> float:
    """Part of the full network's time or energy that a rung takes: constant plus linear in its groups."""
    groups = len(LADDER)
    # c + (1 - c) / groups = 1 / range: the constant that makes the smallest rung meet the published range
    constant = (groups / full_over_smallest - 1.0) / (groups - 1.0)
    return constant + (1.0 - constant) * rung / groups


def idle_rails_w(model: BoardModel, unit: str, freq_hz: float) -> dict[str, float]:
    """The board's idle rails (W) at its reference temperature, the other clocks at their lowest."""
    lowest = {c.name: c.freqs_hz[0] for c in model.spec.clocks}
    clock = model.spec.unit(unit).clock
    return model.idle_rail_w({**lowest, clock: freq_hz}, model.reference_temp_c)


def fit_power(model: BoardModel, unit: str) -> tuple[float, float]:
    """`p0` (W) and `C` (nF) of the full network on one core above idle.

    Least squares on relative errors of power and, through the fitted latency, of energy: the recalled energy
    of the slowest a15 row is 3.9 % off its own time x power, and this shares the gap between the two.
    """
    rows, goals = [], []
    for ghz, (_, power_w, energy_j) in TABLE[unit].items():
        freq_hz = ghz * 1e9
        clock = model.spec.clock(model.spec.unit(unit).clock)
        volts = clock.volts[clock.nearest(freq_hz)]
        for target_w in (power_w, energy_j / single_core_s(unit, freq_hz)):
            rows.append((1.0 / target_w, volts**2 * ghz / target_w))
            goals.append(1.0 - idle_rails_w(model, unit, freq_hz)[unit] / target_w)
    (p0_w, c_nf), *_ = np.linalg.lstsq(np.array(rows), np.array(goals), rcond=None)
    return float(p0_w), float(c_nf)


def build_profile(model: BoardModel) -> Profile:
    """The whole grid of the board, by the laws above; SI units, 6 significant digits."""
    fits = {unit: fit_power(model, unit) for unit in TABLE}
    return Profile(
        name="paper",
        board=model.spec.name,
        kind="modelled",
        rungs=tuple(Rung(index=i, name=n, accuracy=a) for i, (n, a) in enumerate(LADDER, 1)),
        points=tuple(_point(model, fits, *key) for key in grid(model.spec, len(LADDER))),
        provenance={
            "how": HOW,
            "when": WHEN,
            "sensor_rate_hz": 0.0,
            "accuracy_source": ("recalled",) * len(LADDER),
        },
    )


def _point(
    model: BoardModel, fits: dict[str, tuple[float, float]], rung: int, unit: str, cores: int, freq_hz: float
) -> OperatingPoint:
    clock = model.spec.clock(model.spec.unit(unit).clock)
    idle = idle_rails_w(model, unit, freq_hz)
    p0_w, c_nf = fits[unit]
    full_w = idle[unit] + p0_w + c_nf * 1e-9 * clock.volts[clock.nearest(freq_hz)] ** 2 * freq_hz
    one_core_w = full_w * share(rung, ENERGY_RANGE) / share(rung, TIME_RANGE)
    busy = busy_cores(unit, cores)
    mean_s = single_core_s(unit, freq_hz) * share(rung, TIME_RANGE) / busy
    power_w = _rounded(idle[unit] + (one_core_w - idle[unit]) * busy)
    return OperatingPoint(
        rung=rung,
        unit=unit,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=_rounded(mean_s),
        latency_std_s=_rounded(DEVIATION * mean_s),
        latency_p95_s=_rounded(mean_s * (1.0 + P95_SIGMAS * DEVIATION)),
        power_w=power_w,
        rail_power_w={r: power_w if r == unit else _rounded(idle[r]) for r in model.spec.rails},
        samples=0,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def main() -> int:
    """Write the profile; exit status 2 and one line where it cannot be written."""
    parser = argparse.ArgumentParser(description="Build the modelled profile 'paper' of the Odroid XU3.")
    parser.add_argument(
        "--out", type=Path, default=profile_path("xu3", "paper"), help=".csv file; the .toml goes beside it"
    )
    out: Path = parser.parse_args().out
    try:
        profile = build_profile(load_board("xu3"))
        save_profile(profile, out)
    except PowerbandError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{out}: {len(profile.points)} points, {profile.kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
