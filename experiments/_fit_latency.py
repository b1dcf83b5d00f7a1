"""What `fit_board.py` fits and judges of latency: ncnn's benchmark networks on a unit of a board, by one law.

The work of a network follows from its published architecture (MACs of convolutions and fully connected layers, their
weights and what they write, in single precision; layers as ncnn runs them, inputs and splits left out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments._fit_result import SPLIT, Fitted, OnFold, Result, Task
from hw.errors import InputError
from hw.files import number, read_table, whole
from hw.fitfile import Model
from hw.latency import LatencyLaw, Work
from hw.simulated.fit import F, ape, fit_relative

# million MACs, MB of weights, MB written, layers; the layers of mobilenet_v3 and efficientnet_b0 are approximate
NETWORKS = {
    name: Work(macs=macs * 1e6, weight_bytes=weights * 1e6, activation_bytes=written * 1e6, layers=layers)
    for name, macs, weights, written, layers in (
        ("alexnet", 724.4, 243.9, 2.64, 14),  # of 227 x 227 pixels, convolutions in two groups
        ("blazeface", 29.37, 0.354, 3.91, 84),  # 128 x 128
        ("efficientnet_b0", 385.8, 21.1, 27.0, 191),
        ("googlenet", 1583.0, 28.0, 12.9, 84),
        ("mnasnet", 314.4, 17.5, 21.8, 65),
        ("mobilenet", 568.7, 16.9, 20.2, 30),
        ("mobilenet_v2", 300.8, 14.0, 26.7, 65),
        ("mobilenet_v3", 216.6, 21.9, 17.6, 121),  # large
        ("proxylessnasnet", 336.5, 16.3, 22.4, 78),
        ("resnet18", 1814.0, 46.7, 9.94, 40),
        ("resnet50", 3858.0, 102.1, 42.4, 89),  # stride in the first 1 x 1 of a block
        ("shufflenet", 127.1, 7.21, 11.6, 102),  # three groups
        ("shufflenet_v2", 144.9, 9.08, 7.80, 118),
        ("squeezenet", 387.7, 4.94, 11.1, 39),  # 1.1, 227 x 227
        ("vgg16", 15470.0, 553.4, 54.2, 22),
        ("yolov4-tiny", 3454.0, 24.2, 25.3, 36),  # 416 x 416
    )
}
COLUMNS = ("board", "num_threads", "gpu_device", "model", "min_ms")
# cycles per layer of a CPU: 15 us for 9 layers with next to nothing in them, ncnn on an x86-64 core at 2.6 GHz
LAYER_CYCLES = 4000.0
LEAST = 5  # networks of a source
SHARES = np.linspace(0.5, 1.0, 51)  # Amdahl's, tried in turn


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of the table that are timings of one board."""

    title: str
    starts: str  # of the column `board`
    gpu: bool = False
    freq_hz: float


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A unit of a board file, and whose timings tell of it: cycles by the first source, cores and memory by the last.

    The XU3's A7 is timed on two sister chips, since nobody timed its own: the i.MX7 kept its clock and has two cores,
    the H2+ has four.
    """

    unit: str
    sources: tuple[Source, ...]

    @property
    def section(self) -> str:
        """Its section in a fit file."""
        return f"latency_{self.unit}"


NANO = "NVIDIA Jetson Nano"
UNITS = {
    "xu3": (
        Timed(
            unit="a7",
            sources=(
                Source(title="i.MX7, A7 1.0 GHz", starts="Freescale i.MX7", freq_hz=1.0e9),
                Source(title="H2+, A7 1.2 GHz", starts="Banana Pi M2 Zero", freq_hz=1.2e9),
            ),
        ),
    ),
    "jetson_nano": (
        Timed(unit="a57", sources=(Source(title="Jetson Nano, A57", starts=NANO, freq_hz=1.479e9),)),
        Timed(unit="gpu", sources=(Source(title="Jetson Nano, Vulkan", starts=NANO, gpu=True, freq_hz=921.6e6),)),
    ),
    "raspberry_pi_5": (
        Timed(unit="a76", sources=(Source(title="Raspberry Pi 5, A76", starts="Raspberry Pi 5", freq_hz=2.4e9),)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement."""

    source: Source
    network: str
    cores: int
    latency_s: float

    @property
    def work(self) -> Work:
        """What the network asks for."""
        return NETWORKS[self.network]


@dataclass(frozen=True, kw_only=True)
class LatencyResult:
    """Predicted latencies of networks on a unit; arrays of (rows,)."""

    timed: Timed
    timings: list[Timing]
    predicted_s: F

    @property
    def off(self) -> F:
        """Relative errors: above 0 where the law says longer than it took."""
        off: F = self.predicted_s / np.array([t.latency_s for t in self.timings]) - 1.0
        return off

    @property
    def groups(self) -> list[tuple[str, str, int, float]]:
        """By what, its value, rows, mean absolute relative error."""
        off = np.abs(self.off)
        found = [("all", "", len(off), float(off.mean()))]
        for by, values in (
            ("board", [t.source.title for t in self.timings]),
            ("cores", [str(t.cores) for t in self.timings]),
            ("network", [t.network for t in self.timings]),
        ):
            for value in sorted(set(values)):
                rows = np.array(values) == value
                found.append((by, value, int(rows.sum()), float(off[rows].mean())))
        return found

    @property
    def summary(self) -> dict[str, float | int]:
        """The keys of the JSON file."""
        return {"latency_mape": float(np.abs(self.off).mean()), "rows": len(self.timings)}


def read_timings(path: Path, board: str) -> list[tuple[Timed, list[Timing]]]:
    """Timings of each unit of a board that has any; 8-bit variants and other networks are left aside.

    The fastest run counts: the mean of a few runs has whatever else the board did in it. A GPU's rows differ in the
    host's threads alone; the fastest of them counts. Raises InputError for a file that is no such table.
    """
    table = [
        (
            row["board"],
            whole(path, line, "gpu_device", row["gpu_device"], low=-1) >= 0,
            row["model"],
            whole(path, line, "num_threads", row["num_threads"], low=1),
            number(path, line, "min_ms", row["min_ms"], low=1e-6) / 1e3,
        )
        for line, row in read_table(path, COLUMNS, others=True)
    ]
    found: list[tuple[Timed, list[Timing]]] = []
    for timed in UNITS[board]:
        timings: list[Timing] = []
        for source in timed.sources:
            fastest: dict[tuple[str, int], float] = {}
            for name, gpu, network, threads, seconds in table:
                if name.startswith(source.starts) and gpu == source.gpu and network in NETWORKS:
                    key = (network, 1 if gpu else threads)
                    fastest[key] = min(seconds, fastest.get(key, seconds))
            timings += [Timing(source=source, network=n, cores=c, latency_s=s) for (n, c), s in sorted(fastest.items())]
        if timings:
            found.append((timed, timings))
    if not found:
        want = ", ".join(dict.fromkeys(source.starts for timed in UNITS[board] for source in timed.sources))
        raise InputError.at(path, f"has no row that tells of {board}", column="board", want=f"one of {want}")
    return found


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
        c = fit_relative(np.stack([*terms, layers] if source.gpu else terms, axis=1), seconds - fixed)
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
        result = LatencyResult(timed=timed, timings=timings, predicted_s=predicted)
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
        results.append(LatencyResult(timed=timed, timings=timings, predicted_s=_predict(timings, law)))
    return results


def ncnn(board: str) -> Task:
    """The board's timings as `fit_board.py` takes them."""
    sections = tuple(timed.section for timed in UNITS[board])
    return Task(sections=sections, fit=partial(fit_timings, board), judge=partial(judge_timings, board))


def _predict(timings: Sequence[Timing], law: LatencyLaw) -> F:
    """Latencies (s) by a law, (rows,)."""
    return np.array([law.latency_s(t.work, t.cores, t.source.freq_hz) for t in timings])
