"""The hottest CPU sensor of a fan-cooled XU3 from its rails' power: two time constants, an ambient, a hot core.

`T(t) = A + S exp(-t/tau2) + R_core L1(min(P_big, C_core V^2 f)) + R1 L1(P) + R2 L2(P)`

- P: the four rails together; L1, L2: first-order lags of tau1, tau2 (s). A meter reports the past: power is read
  `meter_delay_s` ahead.
- The hot core gets the big rail's power up to what one busy core can make of it; V from the board file.
- A, the effective ambient: no sensor tells it. The idle GPU's rail does, since it is leakage and nothing else:
  `A = a0 + a1 mean(P_gpu) + a2 mean(P)`, a1 > 0. One number a sitting, that is for all runs whose names differ in what
  follows the last `_` alone (the same programs at another clock). A number for each run would leave open how much of
  a rise with the clock is the path's and how much the room's: with 14.9 K/W the same runs are met as well as with
  12.1, by a room that is 2 to 3 K colder for every watt, in all six sittings.
- S, what is left of the time before the run: from the first sample, `S = s0 + s1 P(0) + s2 T_gpu(0) + s3 mean(P_gpu)`.

Of the measured temperatures the prediction sees one, the GPU sensor's in the first sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hw.errors import InputError
from hw.measured import CELSIUS, MHZ, REST_WATT, SECOND, Measurements, read_measurements
from hw.simulated.fit import F
from hw.types import Clock

TEXTS = ("run",)
RAILS = ("P_a15", "P_a7", "P_gpu", "P_mem")
SENSORS = ("T_cpu0", "T_cpu4")
QUANTITIES = {
    "t_s": SECOND,
    "f_a15_mhz": MHZ,
    **dict.fromkeys((*SENSORS, "T_gpu"), CELSIUS),
    **dict.fromkeys(RAILS, REST_WATT),
}
OTHER_COOLING = "cBench"  # runs of that name: the fan switches on its own in them, nothing says when
ROOM_C = 25.0  # what rooms are taken for; nobody tells
IDLE_GPU_W = 0.25  # a run whose GPU draws more is no thermometer
FAST_S = (0.5, 0.7, 1.0, 1.5)
SLOW_S = (10.0, 20.0, 30.0, 45.0, 60.0, 90.0)
CORE_NF = (0.5, 0.65, 0.8, 0.95)
DELAY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class HeatModel:
    """Parameters of the path from the rails to the hottest CPU sensor, fan full on."""

    core_k_per_w: float
    core_nf: float
    fast_k_per_w: float
    slow_k_per_w: float
    fast_s: float
    slow_s: float
    ambient_c: float
    ambient_k_per_gpu_w: float
    ambient_k_per_w: float
    offset_k: float
    """mean ambient of the runs over `ROOM_C`"""
    start_k: float
    start_k_per_w: float
    start_k_per_k: float
    start_k_per_gpu_w: float
    meter_delay_s: float = DELAY_S


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a trace; arrays of (samples,)."""

    name: str
    sitting: str
    sitting_gpu_w: float  # means over all samples of its runs
    sitting_w: float
    t_s: F
    total_w: F
    big_w: F
    gpu_w: F
    clock: F  # V^2 f of the big cluster, f in GHz
    hottest_c: F
    gpu_c: float  # first sample


def read_runs(path: Path, clock: Clock) -> tuple[list[Run], list[str]]:
    """The runs of a trace with the fan full on, and the names of those left aside.

    Columns `TEXTS` and `QUANTITIES` (s, MHz, deg C, W); `clock` gives the big cluster's volts. Rows of a run stand
    together, t_s rises. InputError where that fails, or no run is left.
    """
    data = read_measurements(path, TEXTS, QUANTITIES)
    names = data.texts["run"]
    starts = [int(i) for i in np.flatnonzero(np.r_[True, names[1:] != names[:-1]])]
    runs: list[Run] = []
    aside: list[str] = []
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        name, line = str(names[start]), int(data.lines[start])
        if name in aside or name in [run.name for run in runs]:
            raise InputError.at(path, "run in pieces", line=line, column="run", value=name, want="its rows together")
        if name.startswith(OTHER_COOLING):
            aside.append(name)
        else:
            runs.append(_run(data, slice(start, end), clock))
    if not runs:
        want = f"one whose name does not start with {OTHER_COOLING}"
        raise InputError.at(path, "holds no run with the fan full on", column="run", want=want)
    return [_seated(run, [other for other in runs if other.sitting == run.sitting]) for run in runs], aside


def fit_heat(runs: Sequence[Run]) -> HeatModel:
    """The model that fits these runs best: constants on a grid, all else by least squares over all samples."""
    hottest = np.concatenate([run.hottest_c for run in runs])
    blocks = {key: [_lags(run, *key) for run in runs] for key in itertools.product(FAST_S, SLOW_S)}
    hot = {key: [_hot_lag(run, *key) for run in runs] for key in itertools.product(CORE_NF, FAST_S)}
    best: tuple[float, tuple[float, float, float], F] | None = None
    for core_nf, fast_s, slow_s in itertools.product(CORE_NF, FAST_S, SLOW_S):
        pieces = zip(runs, hot[core_nf, fast_s], blocks[fast_s, slow_s], strict=True)
        terms = np.concatenate([_terms(run, core, *lags, slow_s) for run, core, lags in pieces])
        c = np.linalg.lstsq(terms.T @ terms, terms.T @ hottest, rcond=1e-12)[0]
        off = float(np.mean((terms @ c - hottest) ** 2))
        if best is None or off < best[0]:
            best = (off, (core_nf, fast_s, slow_s), c)
    assert best is not None
    _, (core_nf, fast_s, slow_s), c = best
    ambients_c = [float(c[3:6] @ _ambient(run)) for run in runs]
    names = ("core_k_per_w", "fast_k_per_w", "slow_k_per_w", "ambient_c", "ambient_k_per_gpu_w", "ambient_k_per_w")
    starts = ("start_k", "start_k_per_w", "start_k_per_k", "start_k_per_gpu_w")
    values = dict(zip((*names, *starts), (float(x) for x in c), strict=True))
    offset_k = float(np.mean(ambients_c)) - ROOM_C
    return HeatModel(core_nf=core_nf, fast_s=fast_s, slow_s=slow_s, offset_k=offset_k, **values)


def predict_heat(run: Run, model: HeatModel) -> F:
    """The hottest CPU sensor (deg C) of a run, (samples,)."""
    m = model
    core = _hot_lag(run, m.core_nf, m.fast_s, m.meter_delay_s)
    terms = _terms(run, core, *_lags(run, m.fast_s, m.slow_s, m.meter_delay_s), m.slow_s)
    path = (m.core_k_per_w, m.fast_k_per_w, m.slow_k_per_w, m.ambient_c, m.ambient_k_per_gpu_w, m.ambient_k_per_w)
    start = (m.start_k, m.start_k_per_w, m.start_k_per_k, m.start_k_per_gpu_w)
    predicted: F = terms @ np.array((*path, *start))
    return predicted


def rmse_k(runs: Sequence[Run], model: HeatModel) -> float:
    """Root of the mean squared error (K) over all samples of these runs."""
    off = np.concatenate([predict_heat(run, model) - run.hottest_c for run in runs])
    return float(np.sqrt(np.mean(off**2)))


def _run(data: Measurements, rows: slice, clock: Clock) -> Run:
    name, line = str(data.texts["run"][rows.start]), int(data.lines[rows.start])
    t_s, mhz = data["t_s"][rows], data["f_a15_mhz"][rows]
    if len(t_s) < 10:
        raise InputError.at(data.path, "run too short", line=line, column="run", value=name, want="10 samples or more")
    back = np.flatnonzero(np.diff(t_s) <= 0.0)
    if len(back):
        row = rows.start + int(back[0]) + 1
        raise InputError.at(
            data.path,
            "time does not rise",
            line=int(data.lines[row]),
            column="t_s",
            value=f"{data['t_s'][row]:g}",
            want="samples of a run in their order",
        )
    gpu_w = data["P_gpu"][rows]
    if gpu_w.mean() > IDLE_GPU_W:
        want = f"an idle GPU, below {IDLE_GPU_W:g} W: its leakage is what tells the run's ambient"
        raise InputError.at(
            data.path, "GPU at work", line=line, column="P_gpu", value=f"mean {gpu_w.mean():.3g} W", want=want
        )
    known = np.array(clock.freqs_hz)
    volts = np.interp(mhz * 1e6, known, np.array(clock.volts))
    return Run(
        name=name,
        sitting=name.rpartition("_")[0] or name,
        sitting_gpu_w=float("nan"),  # until all of its runs are read
        sitting_w=float("nan"),
        t_s=t_s,
        total_w=np.sum([data[rail][rows] for rail in RAILS], axis=0),
        big_w=data["P_a15"][rows],
        gpu_w=gpu_w,
        clock=volts**2 * mhz / 1e3,
        hottest_c=np.max([data[sensor][rows] for sensor in SENSORS], axis=0),
        gpu_c=float(data["T_gpu"][rows][0]),
    )


def _seated(run: Run, together: Sequence[Run]) -> Run:
    """The run with the means of its sitting."""
    gpu_w = float(np.concatenate([other.gpu_w for other in together]).mean())
    total_w = float(np.concatenate([other.total_w for other in together]).mean())
    return replace(run, sitting_gpu_w=gpu_w, sitting_w=total_w)


def _lag(watts: F, t_s: F, tau_s: float, delay_s: float) -> F:
    """First-order lag of a power read `delay_s` ahead, from rest at its first value: exact for held values."""
    ahead = np.interp(t_s + delay_s, t_s, watts).tolist()
    keep = np.exp(-np.diff(t_s) / tau_s).tolist()
    level = ahead[0]
    out = [level]
    for target, kept in zip(ahead[1:], keep, strict=True):
        level = target + (level - target) * kept
        out.append(level)
    return np.array(out)


def _lags(run: Run, fast_s: float, slow_s: float, delay_s: float = DELAY_S) -> tuple[F, F]:
    return _lag(run.total_w, run.t_s, fast_s, delay_s), _lag(run.total_w, run.t_s, slow_s, delay_s)


def _hot_lag(run: Run, core_nf: float, fast_s: float, delay_s: float = DELAY_S) -> F:
    return _lag(np.minimum(run.big_w, core_nf * run.clock), run.t_s, fast_s, delay_s)


def _terms(run: Run, core: F, fast: F, slow: F, slow_s: float) -> F:
    """The columns of the law, (samples, 10), in the order of `predict_heat`."""
    one = np.ones_like(run.t_s)
    decay = np.exp(-(run.t_s - run.t_s[0]) / slow_s)
    ambient = (one * term for term in _ambient(run))
    start = (decay, decay * run.total_w[0], decay * run.gpu_c, decay * run.gpu_w.mean())
    return np.column_stack([core, fast, slow, *ambient, *start])


def _ambient(run: Run) -> F:
    """What the ambient of its sitting is told by, (3,)."""
    return np.array([1.0, run.sitting_gpu_w, run.sitting_w])
