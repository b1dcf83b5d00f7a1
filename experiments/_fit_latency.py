"""What `fit_board.py` fits and judges of latency: the law of a unit, by timings of ncnn's benchmark networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments._fit_law import LawResult
from experiments._fit_result import SPLIT, Fitted, OnFold, Result, Task
from experiments._ncnn_timings import UNITS, Timed, Timing, read_timings
from hw.errors import InputError
from hw.fitfile import Model
from hw.latency import LatencyLaw
from hw.simulated.fit import F, ape, fit_relative

# cycles per layer of a CPU: 15 us for 9 layers with next to nothing in them, ncnn on an x86-64 core at 2.6 GHz
LAYER_CYCLES = 4000.0
LEAST = 5  # networks of a source
SHARES = np.linspace(0.5, 1.0, 51)  # Amdahl's, tried in turn


def _result(timed: Timed, timings: Sequence[Timing], predicted_s: F) -> LawResult:
    labels = {
        "board": [t.source.title for t in timings],
        "cores": [str(t.cores) for t in timings],
        "network": [t.network for t in timings],
    }
    return LawResult(
        section=timed.section,
        title=f"Latency on {timed.unit}",
        error="latency_mape",
        measured=np.array([t.latency_s for t in timings]),
        predicted=predicted_s,
        labels={by: np.array(names) for by, names in labels.items()},
    )


def fit_law(timings: Sequence[Timing]) -> LatencyLaw:
    """The law of a unit: cycles are those of the first source among the timings, cores and memory those of the last."""
    by_source = [[t for t in timings if t.source == s] for s in dict.fromkeys(t.source for t in timings)]
    first = _fit_source(by_source[0])
    last = first if len(by_source) == 1 else _fit_source(by_source[-1])
    return replace(first, parallel=last.parallel, weights_gbps=last.weights_gbps)


def _fit_source(timings: Sequence[Timing]) -> LatencyLaw:
    """The law whose absolute relative errors on the timings of one source are smallest on average.

    A CPU's cost of a layer is `LAYER_CYCLES`: these networks are too large to show it. A GPU's is fitted.
    """
    source = timings[0].source
    seconds = np.array([t.latency_s for t in timings])
    laws = []
    for share in [0.0] if source.gpu else SHARES:
        pace = np.array([1.0 - share + share / t.cores for t in timings]) / source.freq_hz
        layers = np.array([float(t.work.layers) for t in timings])
        fixed = np.zeros(len(timings)) if source.gpu else layers * LAYER_CYCLES / source.freq_hz
        terms = [
            pace * [t.work.macs for t in timings],
            pace * [t.work.activation_bytes for t in timings],
            np.array([t.work.weight_bytes for t in timings]),
        ]
        rest = np.maximum(seconds - fixed, 0.1 * seconds)  # layers are at most 10 % of what ncnn's tables have
        c = fit_relative(np.stack([*terms, layers] if source.gpu else terms, axis=1), rest)
        laws.append(
            LatencyLaw(
                mac_cycles=float(c[0]),
                activation_cycles=float(c[1]),
                layer_cycles=0.0 if source.gpu else LAYER_CYCLES,
                parallel=float(share),
                weights_gbps=1e-9 / max(float(c[2]), 1e-12),  # 1000 GB/s where weights cost nothing
                layer_s=float(c[3]) if source.gpu else 0.0,
            )
        )
    return min(laws, key=lambda law: float(ape(_predict(timings, law), seconds).mean()))


def fit_timings(board: str, path: Path, on_fold: OnFold) -> list[Fitted]:
    """The laws of a board's units; predictions are of each network by the law of the others.

    Raises InputError for a file that is no such table, or has too few networks of a source.
    """
    fitted: list[Fitted] = []
    units = read_timings(path, board)
    total = sum(len({t.network for t in timings}) for _, timings in units)
    done = 0
    for timed, timings in units:
        networks = sorted({t.network for t in timings})
        for source in timed.sources:
            few = {t.network for t in timings if t.source == source}
            if 0 < len(few) < LEAST:
                want = f"at least {LEAST}: a law has up to four parameters, and each network is held back in turn"
                raise InputError.at(path, f"has too few networks of {source.title}", value=len(few), want=want)
        predicted = np.zeros(len(timings))
        for network in networks:
            held = np.array([t.network == network for t in timings])
            law = fit_law([t for t, out in zip(timings, held, strict=True) if not out])
            predicted[held] = _predict([t for t, out in zip(timings, held, strict=True) if out], law)
            done += 1
            on_fold(done, total)
        result = _result(timed, timings, predicted)
        off = np.abs(result.off)
        errors = {"latency_mape": float(off.mean()), "latency_mape_worst": float(off.max())}
        split = SPLIT.format(len(networks), "network")
        model = fit_law(timings)
        fitted.append(Fitted(section=timed.section, model=model, result=result, errors=errors, split=split))
    return fitted


def judge_timings(board: str, path: Path, models: Mapping[str, Model]) -> list[Result]:
    """The errors of given laws on a table."""
    results: list[Result] = []
    for timed, timings in read_timings(path, board):
        law = models[timed.section]
        assert isinstance(law, LatencyLaw)
        results.append(_result(timed, timings, _predict(timings, law)))
    return results


def ncnn(board: str) -> Task:
    """The board's timings as `fit_board.py` takes them."""
    sections = tuple(timed.section for timed in UNITS[board])
    return Task(sections=sections, fit=partial(fit_timings, board), judge=partial(judge_timings, board))


def _predict(timings: Sequence[Timing], law: LatencyLaw) -> F:
    """Latencies (s) by a law, (rows,)."""
    return np.array([law.latency_s(t.work, t.cores, t.source.freq_hz) for t in timings])
