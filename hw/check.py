"""The contract of a board as an examiner: `check_board` flies any `Board` and says what it gets wrong.

For whoever writes a driver: run it in a test. It knows the `Board` protocol and nothing of what is behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from hw.errors import Refused
from hw.profile import flown_profile
from hw.types import Board, BoardSpec, Demand, Knobs, Load, Profile, Telemetry

MIN_HZ = 1e6  # no clock of a board is slower: kHz and MHz tables end up below
LATENCY_S = (1e-5, 100.0)  # outside: milliseconds or microseconds taken for seconds
TEMP_C = (-40.0, 150.0)  # outside: millidegrees or kelvin
MAX_RAIL_W = 100.0  # beyond: millijoules or milliwatts
MIN_TOTAL_W = 1e-4  # below, over all rails of a powered board: kilojoules or megawatts


def check_board(board: Board, profile: Profile | None = None, *, deterministic: bool = True) -> None:
    """Examine a board against its contract; AssertionError with one clear text for the first breach.

    `profile`: of what it serves (None: the one it carries, InputError where it carries none).
    Every placement is flown at both ends of its clock, under a demand chosen from the profile, mostly loaded.
    `deterministic` (a simulated board): the same seed must give the same trace. The board is left closed.
    """
    try:
        profile = flown_profile(board, profile)
        check_spec(board.spec, profile)
        first = _fly(board, profile, deterministic)
        _check_nonsense(board, profile)
        if deterministic:
            again = _fly(board, profile, deterministic)
            for k, (one, other) in enumerate(zip(first, again, strict=True)):
                _say(one == other, f"interval {k}: the same seed gave another trace: {one} against {other}")
    finally:
        board.close()
    board.close()  # twice is fine


def check_spec(spec: BoardSpec, profile: Profile) -> None:
    """Assert that a spec is sane and that the profile is one of this board."""
    _say(spec.interval_s > 0, f"spec.interval_s is {spec.interval_s}, must be above 0")
    _say(bool(spec.clocks and spec.units), "a board has at least one clock and one unit")
    for clock in spec.clocks:
        freqs = clock.freqs_hz
        _say(len(freqs) > 0, f"clock {clock.name!r} has no frequencies")
        _say(
            len(freqs) == len(clock.volts),
            f"clock {clock.name!r}: {len(freqs)} freqs_hz, {len(clock.volts)} volts",
        )
        _say(all(a < b for a, b in pairwise(freqs)), f"clock {clock.name!r}: freqs_hz must rise")
        _say(freqs[0] >= MIN_HZ, f"clock {clock.name!r}: {freqs[0]:g} is no frequency in Hz (kHz or MHz?)")
    for unit in spec.units:
        _say(
            unit.clock in [c.name for c in spec.clocks],
            f"unit {unit.name!r} is on the unknown clock {unit.clock!r}",
        )
        _say(unit.cores >= 1, f"unit {unit.name!r} has {unit.cores} cores")
    for kind, names in (
        ("clock", [c.name for c in spec.clocks]),
        ("unit", [u.name for u in spec.units]),
        ("rail", list(spec.rails)),
        ("thermal node", list(spec.thermal_nodes)),
    ):
        _say(len(set(names)) == len(names), f"a {kind} has two entries: {names}")
    _say(profile.board == spec.name, f"the profile is of {profile.board!r}, the board is {spec.name!r}")
    _say(len(profile.rungs) > 0 and len(profile.points) > 0, "the profile is empty")


def check_telemetry(telemetry: Telemetry, spec: BoardSpec, rungs: int) -> None:
    """Assert that one interval's telemetry can be true of this board and a ladder of `rungs` rungs."""
    t = telemetry
    _say(t.interval_s > 0, f"interval_s is {t.interval_s}, must be above 0")
    for knobs, which in ((t.asked, "asked"), (t.granted, "granted")):
        _say(
            set(knobs.freqs_hz) == {c.name for c in spec.clocks},
            f"{which} clocks are {sorted(knobs.freqs_hz)}",
        )
    _check_granted(t.granted, spec, rungs)
    if t.throttled:
        for clock in spec.clocks:
            asked, granted = t.asked.freqs_hz[clock.name], t.granted.freqs_hz[clock.name]
            near = clock.freqs_hz[clock.nearest(asked)]
            _say(
                granted <= max(asked, near),
                f"throttled, but {clock.name!r} granted {granted:g} Hz of {asked:g} Hz",
            )
    counts = f"frames {t.frames}, served {t.served}, missed {t.missed}, dropped {t.dropped}"
    _say(min(t.frames, t.served, t.missed, t.dropped) >= 0, f"a count is negative: {counts}")
    _say(t.served + t.dropped == t.frames, f"served + dropped must be frames: {counts}")
    _say(t.dropped <= t.missed <= t.frames, f"dropped <= missed <= frames must hold: {counts}")
    _say(0 <= t.labelled <= t.served, f"labelled {t.labelled} of {t.served} served frames")
    _check_latency(t)
    for name, share in (("accuracy", t.accuracy), ("confidence", t.confidence)):
        _say(share is None or 0.0 <= share <= 1.0, f"{name} {share} is outside 0..1 (per cent?)")
    _check_physical(t, spec)


def _check_granted(knobs: Knobs, spec: BoardSpec, rungs: int) -> None:
    _say(1 <= knobs.rung <= rungs, f"granted rung {knobs.rung} is not on the ladder of {rungs}")
    _say(
        (knobs.unit, knobs.cores) in spec.placements,
        f"granted {knobs.cores} cores of {knobs.unit!r}: no placement",
    )
    for clock in spec.clocks:
        freq_hz = knobs.freqs_hz[clock.name]
        near = clock.freqs_hz[clock.nearest(freq_hz)]
        in_table = math.isclose(near, freq_hz, rel_tol=1e-6)
        _say(in_table, f"granted {freq_hz:g} Hz is not in the table of clock {clock.name!r} (kHz for Hz?)")


def _check_latency(t: Telemetry) -> None:
    mean, p95 = t.latency_mean_s, t.latency_p95_s
    _say((mean is None) == (t.served == 0), f"latency_mean_s is {mean} with {t.served} frames served")
    if mean is None:
        return
    low, high = LATENCY_S
    _say(low <= mean <= high, f"latency_mean_s {mean:g} is outside {low:g}..{high:g} s (ms or us for s?)")
    if p95 is not None:
        # of few uneven frames the 95th percentile may lie below the mean, but not by orders of magnitude
        _say(0.2 * mean <= p95 <= high, f"latency_p95_s {p95:g} beside latency_mean_s {mean:g} s (one of them in ms?)")


def _check_physical(t: Telemetry, spec: BoardSpec) -> None:
    low, high = TEMP_C
    _say(
        set(t.temp_c) == set(spec.thermal_nodes),
        f"temp_c has {sorted(t.temp_c)}, not the spec's thermal nodes",
    )
    for name, temp in t.temp_c.items():
        _say(low <= temp <= high, f"temp_c[{name!r}] {temp:g} is outside {low:g}..{high:g} C (m°C for °C?)")
    units = {u.name for u in spec.units}
    for label, shares in (("utilisation", t.utilisation), ("peak_utilisation", t.peak_utilisation)):
        _say(set(shares) == units, f"{label} has {sorted(shares)}, not the spec's units")
        for name, share in shares.items():
            _say(0.0 <= share <= 1.0 + 1e-6, f"{label}[{name!r}] {share:g} is outside 0..1 (per cent?)")
    _say(t.sensor_age_s is None or t.sensor_age_s >= 0, f"sensor_age_s {t.sensor_age_s} is negative")
    if t.energy_j is None:
        return
    _say(set(t.energy_j) == set(spec.rails), f"energy_j has {sorted(t.energy_j)}, must be None or every rail")
    for name, joules in t.energy_j.items():
        watts = joules / t.interval_s
        _say(0.0 <= watts < MAX_RAIL_W, f"energy_j[{name!r}] {joules:g} is {watts:g} W (mJ or mW for J or W?)")
    total = sum(t.energy_j.values()) / t.interval_s
    _say(total >= MIN_TOTAL_W, f"all rails together draw {total:g} W, which is no powered board")


def _demand(profile: Profile) -> Demand:
    """One that the fastest point meets with room and the slowest does not."""
    fastest = min(p.latency_mean_s for p in profile.points)
    slowest = max(p.latency_mean_s for p in profile.points)
    middle = math.sqrt(fastest * slowest)
    energy = max(p.energy_j for p in profile.points)
    floor = min(r.accuracy for r in profile.rungs)
    return Demand(
        rate_hz=1.0 / middle,
        deadline_s=2.0 * middle,
        accuracy_min=floor,
        energy_budget_j=energy,
        goal="min_energy",
    )


def _settings(spec: BoardSpec, rungs: int) -> Iterator[Knobs]:
    """Every placement at both ends of its clock, on the ends of the ladder in turn; other clocks lowest."""
    lowest = {c.name: c.freqs_hz[0] for c in spec.clocks}
    for i, (unit, cores) in enumerate(spec.placements):
        clock = spec.clock(spec.unit(unit).clock)
        for freq_hz in (clock.freqs_hz[0], clock.freqs_hz[-1]):
            freqs_hz = {**lowest, clock.name: freq_hz}
            yield Knobs(rung=rungs if i % 2 else 1, unit=unit, cores=cores, freqs_hz=freqs_hz)


def _fly(board: Board, profile: Profile, deterministic: bool) -> list[Telemetry]:
    """One flight from a seeded reset, every interval examined."""
    spec, rungs, demand = board.spec, len(profile.rungs), _demand(profile)
    trace = [board.reset(seed=7)]
    _examine("reset", trace[0], spec, rungs)
    board.inject(Load(busy={u.name: 0.0 for u in spec.units}))
    for k, knobs in enumerate(_settings(spec, rungs)):
        if k == 2:
            board.inject(Load(busy={u.name: 0.5 for u in spec.units}, mem_gbps=0.2, ambient_c=30.0))
        telemetry = board.step(knobs, demand)
        trace.append(telemetry)
        _examine(f"interval {k}", telemetry, spec, rungs)
        _say(_same(telemetry.asked, knobs), f"interval {k}: asked {knobs}, telemetry says {telemetry.asked}")
        granted = telemetry.throttled or _same(telemetry.granted, knobs)
        _say(granted, f"interval {k}: not throttled, but granted {telemetry.granted}")
        _check_against_profile(telemetry, spec, profile, demand)
    frames = sum(t.frames for t in trace[1:])
    expected = demand.rate_hz * sum(t.interval_s for t in trace[1:])
    waiting = 0.0 if deterministic else demand.rate_hz * demand.deadline_s  # a real worker counts when it is done
    arrived = abs(frames - expected) <= 2.0 + 0.05 * expected + waiting
    _say(arrived, f"{frames} frames arrived, {expected:.1f} were demanded")
    return trace


def _examine(when: str, telemetry: Telemetry, spec: BoardSpec, rungs: int) -> None:
    try:
        check_telemetry(telemetry, spec, rungs)
    except AssertionError as error:
        raise AssertionError(f"{when}: {error}") from None


def _check_against_profile(t: Telemetry, spec: BoardSpec, profile: Profile, demand: Demand) -> None:
    """No board is ten times off its profile, but a wrong unit is a thousand times off."""
    accuracy = profile.rung(t.granted.rung).accuracy
    text = f"profile_accuracy is {t.profile_accuracy}, the profile has {accuracy:g} for rung {t.granted.rung}"
    _say(t.profile_accuracy in (None, accuracy), text)
    if t.latency_mean_s is None:
        return
    key = (t.granted.rung, t.granted.unit, t.granted.cores)
    freq_hz = t.granted.freqs_hz[spec.unit(t.granted.unit).clock]
    mine = [p for p in profile.points if (p.rung, p.unit, p.cores) == key]
    expected = min(mine, key=lambda p: abs(p.freq_hz - freq_hz)).latency_mean_s
    low, high = expected / 10, 10 * (expected + demand.deadline_s)
    text = f"latency_mean_s {t.latency_mean_s:g} is far from the profile's {expected:g} s (ms or us for s?)"
    _say(low <= t.latency_mean_s <= high, text)


def _check_nonsense(board: Board, profile: Profile) -> None:
    """What a board does not have is Refused, or granted as something that it has."""
    spec, rungs, demand = board.spec, len(profile.rungs), _demand(profile)
    good = next(_settings(spec, rungs))
    clock = spec.clocks[0]
    nonsense = (
        replace(good, rung=0),
        replace(good, rung=rungs + 1),
        replace(good, unit="no such unit"),
        replace(good, cores=0),
        replace(good, cores=spec.unit(good.unit).cores + 1),
        replace(good, freqs_hz={**good.freqs_hz, clock.name: clock.max_hz * 3.3}),
        replace(good, freqs_hz={**good.freqs_hz, clock.name: clock.freqs_hz[0] * 1.01}),
    )
    for knobs in nonsense:
        try:
            telemetry = board.step(knobs, demand)
        except Refused:
            continue
        except Exception as error:
            raise AssertionError(f"{knobs} must be Refused or granted legally, not raise {error!r}") from error
        check_telemetry(telemetry, spec, rungs)


def _same(one: Knobs, other: Knobs) -> bool:
    if replace(one, freqs_hz={}) != replace(other, freqs_hz={}) or set(one.freqs_hz) != set(other.freqs_hz):
        return False
    return all(math.isclose(one.freqs_hz[c], other.freqs_hz[c], rel_tol=1e-6) for c in one.freqs_hz)


def _say(holds: bool, text: str) -> None:
    # not an assert statement: the examiner works under python -O as well
    if not holds:
        raise AssertionError(text)
