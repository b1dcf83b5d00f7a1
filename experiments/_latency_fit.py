"""What `judge_latency.py` fits: ncnn's benchmark networks as work, the boards of its tables, and the fit of one law.

The work of a network follows from its published architecture (MACs of convolutions and fully connected layers, their
weights and what they write, in single precision; layers as ncnn runs them, inputs and splits left out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw.errors import InputError
from hw.files import number, read_table, whole
from hw.latency import LatencyLaw, Work
from hw.simulated.fit import F, fit_relative

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
SHARES = np.linspace(0.5, 1.0, 51)  # Amdahl's, tried in turn


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of the table that one law describes, and the board file and unit that carry it."""

    title: str
    starts: str  # of the column `board`
    gpu: bool = False
    freq_hz: float
    board: str
    unit: str


SOURCES = (
    Source(title="i.MX7, A7 1.0 GHz", starts="Freescale i.MX7", freq_hz=1.0e9, board="xu3", unit="a7"),
    Source(title="H2+, A7 1.2 GHz", starts="Banana Pi M2 Zero", freq_hz=1.2e9, board="xu3", unit="a7"),
    Source(title="Jetson Nano, A57", starts="NVIDIA Jetson Nano", freq_hz=1.479e9, board="jetson_nano", unit="a57"),
    Source(
        title="Jetson Nano, GPU (Vulkan)",
        starts="NVIDIA Jetson Nano",
        gpu=True,
        freq_hz=921.6e6,
        board="jetson_nano",
        unit="gpu",
    ),
    Source(title="Raspberry Pi 5, A76", starts="Raspberry Pi 5", freq_hz=2.4e9, board="raspberry_pi_5", unit="a76"),
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement."""

    network: str
    cores: int
    latency_s: float

    @property
    def work(self) -> Work:
        """What the network asks for."""
        return NETWORKS[self.network]


def read_timings(path: str | Path) -> dict[str, list[Timing]]:
    """Timings by `Source.title`, of the networks that are known; 8-bit variants and others are left aside.

    The fastest run counts: the mean of a few runs has whatever else the board did in it. A GPU's rows differ in the
    host's threads alone; the fastest of them counts. Raises InputError for a file that is no such table.
    """
    found: dict[str, dict[tuple[str, int], float]] = {source.title: {} for source in SOURCES}
    for line, row in read_table(path, COLUMNS, others=True):
        gpu = whole(path, line, "gpu_device", row["gpu_device"], low=-1) >= 0
        threads = whole(path, line, "num_threads", row["num_threads"], low=1)
        seconds = number(path, line, "min_ms", row["min_ms"], low=1e-6) / 1e3
        for source in SOURCES:
            if row["board"].startswith(source.starts) and gpu == source.gpu and row["model"] in NETWORKS:
                key = (row["model"], 1 if gpu else threads)
                found[source.title][key] = min(seconds, found[source.title].get(key, seconds))
    if not any(found.values()):
        want = ", ".join(source.starts for source in SOURCES)
        raise InputError.at(path, "has no row of a board that is known here", column="board", want=f"one of {want}")
    return {
        title: [Timing(network=network, cores=cores, latency_s=s) for (network, cores), s in sorted(rows.items())]
        for title, rows in found.items()
        if rows
    }


def fit_law(source: Source, timings: Sequence[Timing]) -> LatencyLaw:
    """The law whose absolute relative errors on these timings are smallest on average.

    A CPU's cost of a layer is `LAYER_CYCLES`: these networks are too large to show it. A GPU's is fitted.
    """
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
    return min(laws, key=lambda law: float(np.abs(misses(law, source, timings)).mean()))


def held_back(source: Source, timings: Sequence[Timing]) -> F:
    """Relative errors, (rows,): each network predicted by the law of the others."""
    off = np.zeros(len(timings))
    for network in {t.network for t in timings}:
        held = np.array([t.network == network for t in timings])
        law = fit_law(source, [t for t, out in zip(timings, held, strict=True) if not out])
        off[held] = misses(law, source, [t for t, out in zip(timings, held, strict=True) if out])
    return off


def misses(law: LatencyLaw, source: Source, timings: Sequence[Timing]) -> F:
    """Relative errors of a law, (rows,): above 0 where it says longer than it took."""
    return np.array([law.latency_s(t.work, t.cores, source.freq_hz) / t.latency_s - 1.0 for t in timings])
