"""ncnn's benchmark tables: its networks as work, the boards in them that tell of ours, and their timings.

The work of a network follows from its published architecture (MACs of convolutions and fully connected layers, their
weights and what they write, in single precision; layers as ncnn runs them, inputs and splits left out).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hw.errors import InputError
from hw.files import number, read_table, whole
from hw.latency import Work

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
SLIPS = {"s": 1e3, "us": 1e-3}  # how many ms are one of them
MACS_PER_CYCLE = 0.02, 200.0  # on one core, or on a GPU: 0.13 to 54 in ncnn's tables of these boards


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


def read_timings(path: Path, board: str) -> list[tuple[Timed, list[Timing]]]:
    """Timings of each unit of a board that has any; 8-bit variants and other networks are left aside.

    The fastest run counts: the mean of a few runs has whatever else the board did in it. A GPU's rows differ in the
    host's threads alone; the fastest of them counts. Raises InputError for a file that is no such table.
    """
    rows = read_table(path, COLUMNS, others=True)
    found: list[tuple[Timed, list[Timing]]] = []
    for timed in UNITS[board]:
        timings: list[Timing] = []
        for source in timed.sources:
            fastest: dict[tuple[str, int], float] = {}
            for line, row in rows:
                network, gpu = row["model"], whole(path, line, "gpu_device", row["gpu_device"], low=-1) >= 0
                threads = whole(path, line, "num_threads", row["num_threads"], low=1)
                ms = number(path, line, "min_ms", row["min_ms"], low=1e-6)
                if row["board"].startswith(source.starts) and gpu == source.gpu and network in NETWORKS:
                    cores = 1 if gpu else threads
                    _check_ms(path, line, ms, NETWORKS[network].macs / (1e-3 * source.freq_hz * cores))
                    fastest[network, cores] = min(1e-3 * ms, fastest.get((network, cores), 1e-3 * ms))
            timings += [Timing(source=source, network=n, cores=c, latency_s=s) for (n, c), s in sorted(fastest.items())]
        if timings:
            found.append((timed, timings))
    if not found:
        want = ", ".join(dict.fromkeys(source.starts for timed in UNITS[board] for source in timed.sources))
        raise InputError.at(path, f"has no row that tells of {board}", column="board", want=f"one of {want}")
    return found


def _check_ms(path: Path, line: int, ms: float, macs: float) -> None:
    """InputError where a core cannot have taken so long; `macs`: the network's for every cycle that it has in a ms."""
    low, high = MACS_PER_CYCLE
    if low <= macs / ms <= high:
        return
    for unit, factor in SLIPS.items():
        if low <= macs / (ms * factor) <= high:
            want = f"ms: {ms * factor:g} here"
            raise InputError.at(path, f"looks like {unit}", line=line, column="min_ms", value=f"{ms:g}", want=want)
    want = f"ms: {macs / high:.3g} to {macs / low:.3g} for this network"
    raise InputError.at(path, "out of range", line=line, column="min_ms", value=f"{ms:g}", want=want)
