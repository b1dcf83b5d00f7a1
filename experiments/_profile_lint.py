"""What is odd about a profile that is a profile: points that physics or a quiet machine would not give."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hw.types import BoardSpec, OperatingPoint, Profile

SLOWER = 1.05  # more than noise
SPREAD = 0.25  # standard deviation over mean
FEW = 5
HELD = 0.5  # of what the clock should slow


def lint(profile: Profile, spec: BoardSpec) -> Iterator[str]:
    """A line per oddity, with its point where it is one point's; none for a profile that is as it should be."""
    points = {(p.rung, p.unit, p.cores, p.freq_hz): p for p in profile.points}
    power = profile.provenance.get("power", profile.kind)
    if power != profile.kind:
        yield f"power is {power}, latency {profile.kind}"
    for point in profile.points:
        if point.latency_std_s > SPREAD * point.latency_mean_s:
            yield f"{_words(point)}: standard deviation {point.latency_std_s / point.latency_mean_s:.0%} of the mean"
    if few := sum(0 < p.samples < FEW for p in profile.points):
        yield f"{few} of {len(profile.points)} points: fewer than {FEW} frames; without --quick they get more"
    for unit, cores in spec.placements:
        freqs_hz = spec.clock(spec.unit(unit).clock).freqs_hz
        for rung in range(1, len(profile.rungs) + 1):
            row = [points[rung, unit, cores, f] for f in freqs_hz]
            for low, high in pairwise(row):
                if high.latency_mean_s > SLOWER * low.latency_mean_s:
                    yield f"{_words(high)}: slower than at {low.freq_hz / 1e6:.0f} MHz"
            gain, clock = row[0].latency_mean_s / row[-1].latency_mean_s, freqs_hz[-1] / freqs_hz[0]
            if gain < 1 + HELD * (clock - 1) and len(row) > 1:
                yield f"{_words(row[-1])}: {gain:.1f} times as fast at {clock:.1f} times the clock"
            if rung > 1:
                for point in row:
                    smaller = points[rung - 1, unit, cores, point.freq_hz]
                    if point.latency_mean_s * SLOWER < smaller.latency_mean_s:
                        yield f"{_words(point)}: faster than the smaller rung"


def _words(point: OperatingPoint) -> str:
    return f"rung {point.rung}, {point.cores} x {point.unit} at {point.freq_hz / 1e6:.0f} MHz"
