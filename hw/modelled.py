"""The profile of a ladder on a board where nobody has run it: latency by `hw.latency`, power by the board file."""

from __future__ import annotations

from pathlib import Path

from hw.boardmodel import BoardModel, UnitModel
from hw.errors import InputError
from hw.ladderfile import LADDER_FILE, find_ladder, ladder_names, read_ladder
from hw.latency import LatencyLaw, Work
from hw.profiletable import grid, with_checksum
from hw.types import OperatingPoint, Profile

HOW = (
    "Modelled when it was opened, nothing was measured: ladder {name!r} ({file}, SHA-256 {sha256}) on the board file "
    "{board}. Latency: cycles per MAC and per activation byte, shared among cores by Amdahl's law, and per layer; "
    "weights from memory and, on a GPU, launches, whatever the clock ([unit.latency]; docs/LATENCY.md has the errors). "
    "Power: idle law of the board at {temp_c:g} C, other clocks at their lowest, and C V^2 f of the busy cores; a CPU "
    "core that waits for memory counts {waiting:g}, a waiting GPU draws its clocks alone; weights and activations pass "
    "through memory once per frame; what a board file calls active_w is left to the simulator. Latency deviation 2 % "
    "of the mean and normal, so p95 = mean + 1.645 std."
)
WHEN = "when it was opened"
ACCURACY = "measured by ncnn on the test images when the ladder was exported (ladder.json)"
DEVIATION, P95_SIGMAS = 0.02, 1.645
DIGITS = 6  # significant; more would only look exact
WAITING = 0.5  # capacitance of memory-bound over compute-bound work on one core: A15, class model of the board's fit


def model_profile(ladder: str | Path, model: BoardModel) -> Profile:
    """The whole grid of a board for a ladder: a name of the zoo, a folder with a ladder.json, or that file.

    Raises InputError for a ladder that does not exist or cannot be one, and where a unit has no latency law.
    """
    path = find_ladder(ladder)
    if path is None:
        known = ", ".join(ladder_names()) or "none"
        raise InputError(f"unknown ladder {str(ladder)!r}; known: {known}, or the path of a folder with {LADDER_FILE}")
    found = read_ladder(path)
    laws = {unit.name: (unit, _law(model, unit)) for unit in model.units}
    points = []
    for rung, unit, cores, freq_hz in grid(model.spec, len(found.rungs)):
        points.append(_point(model, *laws[unit], found.work[rung - 1], rung, cores, freq_hz))
    how = HOW.format(
        name=found.name,
        file=f"{path.parent.name}/{path.name}",
        sha256=found.sha256,
        board=model.path.name,
        temp_c=model.reference_temp_c,
        waiting=WAITING,
    )
    return with_checksum(
        Profile(
            name=found.name,
            board=model.spec.name,
            kind="modelled",
            rungs=found.rungs,
            points=tuple(points),
            provenance={
                "ladder": found.name,
                "how": how,
                "when": WHEN,
                "sensor_rate_hz": 0.0,
                "accuracy_source": (ACCURACY,) * len(found.rungs),
            },
        )
    )


def _law(model: BoardModel, unit: UnitModel) -> LatencyLaw:
    if unit.latency is None:
        want = "a ladder's latency is modelled from it"
        raise InputError.at(model.path, f"[unit.latency] of unit {unit.name!r} is missing", want=want)
    return unit.latency


def _point(
    model: BoardModel, unit: UnitModel, law: LatencyLaw, work: Work, rung: int, cores: int, freq_hz: float
) -> OperatingPoint:
    lowest = {c.name: c.freqs_hz[0] for c in model.spec.clocks}
    watts = model.idle_rail_w({**lowest, unit.clock: freq_hz}, model.reference_temp_c)
    mean_s = law.latency_s(work, cores, freq_hz)
    clock = model.spec.clock(unit.clock)
    core_w = (unit.conv_nf or unit.background_nf) * 1e-9 * clock.volts[clock.nearest(freq_hz)] ** 2 * freq_hz
    waiting_s = 0.0 if unit.kind == "gpu" else WAITING * law.stall_s(work)
    watts[unit.name] += core_w * (law.busy_s(work, freq_hz) + waiting_s) / mean_s
    moved_gbps = (work.weight_bytes + work.activation_bytes) / mean_s / 1e9
    for rail in model.rails:
        watts[rail.name] += rail.w_per_gbps * moved_gbps
    rounded = {name: _rounded(w) for name, w in watts.items()}
    return OperatingPoint(
        rung=rung,
        unit=unit.name,
        cores=cores,
        freq_hz=freq_hz,
        latency_mean_s=_rounded(mean_s),
        latency_std_s=_rounded(DEVIATION * mean_s),
        latency_p95_s=_rounded(mean_s * (1.0 + P95_SIGMAS * DEVIATION)),
        power_w=rounded[unit.name],
        rail_power_w=rounded,
        samples=0,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
