"""Builds the profiles `paper`: the four-group AlexNet of two papers on the boards they used, as a model.

The papers: Xun, Tran-Thanh, Al-Hashimi, Merrett, "Incremental Training and Group Convolution Pruning for
Runtime DNN Performance Scaling on Heterogeneous Embedded Platforms", MLCAD 2019, and "Optimising Resource
Management for Embedded Machine Learning", DATE 2020. No board stood behind these files: the rows of the table
are recalled, not read. What is the papers' and what is this model's own stands in `Law.how`, for the sidecar.

    python experiments/make_paper_profile.py --board jetson_nano
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments._cli import main_guard, parse
from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.profile import profile_path, save_profile
from hw.profiletable import grid
from hw.types import OperatingPoint, Profile, Rung

Rows = dict[float, tuple[float, float, float]]  # GHz -> (s, W, J)

TIME_RANGE, ENERGY_RANGE = 2.73, 2.36  # 100 % over 25 % of the network, MLCAD 2019
LADDER = (("25%", 0.560), ("50%", 0.627), ("75%", 0.688), ("100%", 0.712))  # top-1 on CIFAR-10, recalled
DEVIATION, P95_SIGMAS = 0.02, 1.645
DIGITS = 6  # significant; more would only look exact


@dataclass(frozen=True, kw_only=True)
class Law:
    """What is known of the 100 % network on a board, by unit, and how the rest follows from it."""

    fitted_on: str  # the board with the clocks of `table`
    table: dict[str, Rows]  # recalled DATE 2020 table, one core
    latency: dict[str, tuple[float, float]]  # a (s), b (s GHz) of t = a + b/f
    parallel: dict[str, float]  # share of the work that more cores speed up (Amdahl)
    idle_units_off: bool  # whether a row's other units are powered down, or idle with their clocks on
    how: str
    when: str


TABLE: dict[str, Rows] = {
    "a15": {0.2: (1.020, 0.326, 0.320), 1.0: (0.204, 0.846, 0.173), 1.8: (0.117, 2.120, 0.248)},
    "a7": {0.2: (1.780, 0.0724, 0.129), 0.7: (0.504, 0.141, 0.0714), 1.3: (0.280, 0.329, 0.0921)},
}
XU3 = Law(
    fitted_on="xu3",
    table=TABLE,
    latency={"a15": (0.004, 0.203), "a7": (0.007, 0.355)},  # fits the table within 2.1 %
    parallel={"a15": 0.90, "a7": 0.87},  # the a15 figure is assumed, the a7 one from two sister boards
    idle_units_off=False,
    how=(
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
    ),
    when="2026-11-21",
)
NANO = Law(
    fitted_on="jetson_nano",
    table={
        "a57": {0.9216: (0.0694, 0.878, 0.0609), 1.428: (0.0469, 1.490, 0.0699)},
        "gpu": {0.6144: (0.0074, 1.340, 0.00992), 0.9216: (0.00493, 2.500, 0.0123)},
    },
    latency={"a57": (0.006, 0.0584), "gpu": (0.0, 0.004545)},  # fits the table within 0.1 %
    parallel={"a57": 0.867, "gpu": 0.0},  # from ncnn's own measurements on this board
    idle_units_off=True,
    how=(
        "Built by experiments/make_paper_profile.py; nothing was measured. "
        "Full network on one A57 core or on the GPU: t = a + b/f and power = idle law of the board at 35 C + p0 + "
        "C V^2 f, both fitted per unit to the two recalled rows of the DATE 2020 table; p0 = 0 on a57, where the "
        "fit would make it negative. Power is taken for that of the unit's own rail, POM_5V_CPU or POM_5V_GPU: "
        "the A57 rows lie where PARSEC programs lie on that rail, the GPU rows are too low to hold a CPU rail as "
        "well. The papers' GPU rows come with an A57 clock, 921 MHz and 1.43 GHz; their time follows the GPU's clock "
        "alone (within 0.1 %), so the A57's is left out and stands at its lowest, as in every row of a profile: what "
        "launching kernels would take there is not in it. "
        "Rungs: 2.73x in time and 2.36x in energy from 100 % to 25 % (MLCAD 2019, another board), linear in the "
        "groups, the same at every point, on the GPU too. "
        "Extrapolated beyond the papers' levels: a57 below 0.92 and at 1.48 GHz, gpu below 0.61 GHz. "
        "Assumed: more than one core by Amdahl's law (parallel share 0.867), with power above idle in proportion to "
        "the mean number of busy cores; latency deviation 2 % of the mean and normal, so p95 = mean + 1.645 std; "
        "the other unit powered down; the rest of the module at its idle base, to which the simulator adds the "
        "memory's higher clock. Accuracies are recalled and were not checked."
    ),
    when="2026-11-21",
)
LAWS = {"xu3": XU3, "jetson_nano": NANO, "jetson_nano_5w": NANO}


def single_core_s(law: Law, unit: str, freq_hz: float) -> float:
    """Latency of the 100 % network on one core: `a + b/f` (s)."""
    a, b = law.latency[unit]
    return a + b / (freq_hz / 1e9)


def busy_cores(law: Law, unit: str, cores: int) -> float:
    """Amdahl's speed-up on `cores` cores, which is also how many of them are busy on average."""
    p = law.parallel[unit]
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


def fit_power(law: Law, model: BoardModel, unit: str) -> tuple[float, float]:
    """`p0` (W) and `C` (nF) of the full network on one core above idle, neither negative.

    Least squares on relative errors of power and, through the fitted latency, of energy: the recalled energy
    of the slowest a15 row is 3.9 % off its own time x power, and this shares the gap between the two.
    """
    rows, goals = [], []
    for ghz, (_, power_w, energy_j) in law.table[unit].items():
        freq_hz = ghz * 1e9
        clock = model.spec.clock(model.spec.unit(unit).clock)
        volts = clock.volts[clock.nearest(freq_hz)]
        for target_w in (power_w, energy_j / single_core_s(law, unit, freq_hz)):
            rows.append((1.0 / target_w, volts**2 * ghz / target_w))
            goals.append(1.0 - idle_rails_w(model, unit, freq_hz)[unit] / target_w)
    (p0_w, c_nf), *_ = np.linalg.lstsq(np.array(rows), np.array(goals), rcond=None)
    if p0_w < 0:  # at low clocks the network would draw less than an idle unit
        (c_nf,), *_ = np.linalg.lstsq(np.array(rows)[:, 1:], np.array(goals), rcond=None)
        p0_w = 0.0
    return float(p0_w), float(c_nf)


def build_profile(model: BoardModel) -> Profile:
    """The whole grid of the board, by the laws above; SI units, 6 significant digits.

    InputError where the papers say nothing of this board.
    """
    law = LAWS.get(model.spec.name)
    if law is None:
        raise InputError.at("--board", "no rows of the papers", value=model.spec.name, want=f"one of {', '.join(LAWS)}")
    fits = {unit: fit_power(law, load_board(law.fitted_on), unit) for unit in law.table}
    return Profile(
        name="paper",
        board=model.spec.name,
        kind="modelled",
        rungs=tuple(Rung(index=i, name=n, accuracy=a) for i, (n, a) in enumerate(LADDER, 1)),
        points=tuple(_point(law, model, fits, *key) for key in grid(model.spec, len(LADDER))),
        provenance={
            "how": law.how,
            "when": law.when,
            "sensor_rate_hz": 0.0,
            "accuracy_source": ("recalled",) * len(LADDER),
        },
    )


def _point(
    law: Law,
    model: BoardModel,
    fits: dict[str, tuple[float, float]],
    rung: int,
    unit: str,
    cores: int,
    freq_hz: float,
) -> OperatingPoint:
    clock = model.spec.clock(model.spec.unit(unit).clock)
    rails = idle_rails_w(model, unit, freq_hz)
    idle_w = rails[unit]
    p0_w, c_nf = fits[unit]
    full_w = idle_w + p0_w + c_nf * 1e-9 * clock.volts[clock.nearest(freq_hz)] ** 2 * freq_hz
    one_core_w = full_w * share(rung, ENERGY_RANGE) / share(rung, TIME_RANGE)
    busy = busy_cores(law, unit, cores)
    mean_s = single_core_s(law, unit, freq_hz) * share(rung, TIME_RANGE) / busy
    if law.idle_units_off:
        rails |= {u.name: u.off_w for u in model.units}
    rails[unit] = idle_w + (one_core_w - idle_w) * busy
    return OperatingPoint(
        rung=rung,
        unit=unit,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=_rounded(mean_s),
        latency_std_s=_rounded(DEVIATION * mean_s),
        latency_p95_s=_rounded(mean_s * (1.0 + P95_SIGMAS * DEVIATION)),
        power_w=_rounded(rails[unit]),
        rail_power_w={r: _rounded(rails[r]) for r in model.spec.rails},
        samples=0,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str = "xu3"
    """xu3, jetson_nano or jetson_nano_5w"""
    out: Path | None = None
    """.csv file; the .toml goes beside it (default: the one that ships)"""


def main() -> None:
    """Run the command."""
    config = parse(Config, "Build the modelled profile 'paper' of a board.")
    profile = build_profile(load_board(config.board))
    out = config.out or profile_path(profile.board, profile.name)
    save_profile(profile, out)
    print(f"{out}: {len(profile.points)} points, {profile.kind}")


if __name__ == "__main__":
    main_guard(main)
