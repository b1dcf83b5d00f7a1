"""The batched queue against the event-by-event one: misses within 2 points (5 in one interval), latency 5 %.

About saturation, where a wait wanders, within what `WANDERS` says.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from hw.clip import constant
from hw.simulated.queue import Queue, serve
from tests.arrays import f32
from tests.physics.reference_queue import Outcome, reference_queue

Floats = npt.NDArray[np.float32]

UTILISATIONS = (0.2, 0.5, 0.8, 0.95, 1.1, 1.5, 2.5)
ABOUT_SATURATION = (0.95, 0.98, 0.995, 1.02, 1.05, 1.1)
DEADLINES = (1.05, 1.2, 1.5, 2.0, 4.0, 8.0)  # in service times
CVS = (0.02, 0.1)
SERVICES_S = (0.02, 0.08, 0.3)
INTERVAL_S = 0.5
HORIZON_S = 60.0
FRAMES = 24_000  # of the reference, per cell: the standard error of a miss rate of 0.5 is 0.3 points
PHASE = 0.3  # no frame falls on the edge of an interval, where single precision may count it either way


class Off(NamedTuple):
    """How far off a cell may be."""

    points: float = 0.02  # miss rate
    latency: float = 0.05  # mean latency, relative
    busy: float = 0.03  # time that the network runs, of the horizon


# about saturation a wait wanders, the more so the more service times vary
WANDERS = {0.02: Off(points=0.05), 0.1: Off(points=0.1, latency=0.15), 0.3: Off(points=0.15, latency=0.4, busy=0.08)}


class Totals:
    """Sums over the intervals of a horizon, one entry per cell."""

    def __init__(self, cells: int) -> None:
        self.arrived, self.dropped, self.missed, self.latency_s, self.busy_s = np.zeros((5, cells))

    def add(self, queue: Queue) -> None:
        served = queue.arrived - queue.dropped
        self.arrived += queue.arrived
        self.dropped += queue.dropped
        self.missed += queue.missed
        self.latency_s += np.where(served > 0, served * queue.latency_mean_s, 0)
        self.busy_s += queue.busy_s


def chained(
    service_s: Floats,
    cv: Floats,
    rate_hz: Floats,
    deadline_s: Floats,
    *,
    backlog_s: Floats,
    horizon_s: float,
    at: float = PHASE,
) -> Totals:
    """`serve` interval by interval, backlog and phase handed on."""
    totals = Totals(service_s.size)
    phase = np.full_like(service_s, at)
    for _ in range(round(horizon_s / INTERVAL_S)):
        queue = serve(backlog_s, phase, service_s, cv, rate_hz, deadline_s, constant(INTERVAL_S))
        assert np.all(queue.busy_s >= 0)
        assert np.all(queue.busy_s <= constant(INTERVAL_S) * (1 + 1e-6))
        assert np.all(queue.missed <= queue.arrived)
        assert np.all(queue.dropped >= -1e-3)
        assert np.all(queue.dropped <= queue.missed + 1e-2)
        served = queue.arrived - queue.dropped > 0.5
        assert np.all((queue.latency_p95_s >= queue.latency_mean_s)[served])
        totals.add(queue)
        backlog_s, phase = queue.backlog_s, queue.phase
    return totals


def judge(name: str, totals: Totals, i: int, reference: Outcome, repeats: int, horizon_s: float, off: Off) -> list[str]:
    """What is wrong with cell `i`, in words and numbers."""
    wrong = []
    arrived = reference.arrived / repeats
    if totals.arrived[i] != arrived:
        wrong.append(f"{name}: {totals.arrived[i]:g} frames, reference {arrived:g}")
    missed, expected = totals.missed[i] / totals.arrived[i], reference.missed / reference.arrived
    if abs(missed - expected) > off.points:
        wrong.append(f"{name}: miss rate {missed:.3f}, reference {expected:.3f}")
    latency_s = totals.latency_s[i] / (totals.arrived[i] - totals.dropped[i])
    if abs(latency_s / reference.latency_mean_s - 1) > off.latency:
        wrong.append(f"{name}: mean latency {latency_s:.4f} s, reference {reference.latency_mean_s:.4f} s")
    busy_s = reference.busy_s / repeats
    if abs(totals.busy_s[i] - busy_s) > off.busy * horizon_s:
        wrong.append(f"{name}: busy {totals.busy_s[i]:.2f} s, reference {busy_s:.2f} s")
    return wrong


@pytest.mark.parametrize(("utilisation", "cv"), [*itertools.product(UTILISATIONS, CVS)])
def test_steady_demand(utilisation: float, cv: float) -> None:
    steady(utilisation, cv, Off())


@pytest.mark.parametrize("cv", WANDERS)
@pytest.mark.parametrize("utilisation", ABOUT_SATURATION)
def test_steady_demand_about_saturation(utilisation: float, cv: float) -> None:
    """Where the deadline bounds a wait that wanders."""
    steady(utilisation, cv, WANDERS[cv])


def steady(utilisation: float, cv: float, off: Off) -> None:
    """Judge a minute of steady demand, by deadlines and services."""
    cells = list(itertools.product(DEADLINES, (cv,), SERVICES_S))
    deadline, cvs, service_s = np.array(cells, np.float32).T
    totals = chained(
        service_s,
        cvs,
        np.float32(utilisation) / service_s,
        deadline * service_s,
        backlog_s=np.zeros_like(service_s),
        horizon_s=HORIZON_S,
    )
    wrong = []
    for i, (d, c, s) in enumerate(cells):
        repeats = math.ceil(FRAMES / (utilisation / s * HORIZON_S))
        reference = reference_queue(
            rate_hz=utilisation / s,
            deadline_s=d * s,
            service_s=s,
            cv=c,
            horizon_s=HORIZON_S,
            phase=PHASE,
            rng=np.random.default_rng([i, 7]),
            repeats=repeats,
        )
        name = f"utilisation {utilisation:g}, deadline {d:g} services, cv {c:g}, service {s:g} s"
        wrong += judge(name, totals, i, reference, repeats, HORIZON_S, off)
    assert not wrong, f"{len(wrong)} in {len(cells)} cells:\n" + "\n".join(wrong)


def transient(
    utilisation: float,
    horizon_s: float,
    *,
    deadlines: tuple[float, ...],
    backlogs: tuple[float, ...],
    cvs: tuple[float, ...],
    off: Off = Off(),  # noqa: B008
    services_s: tuple[float, ...] = (0.02, 0.08),
) -> None:
    """Judge a wait that moves: deadlines in service times, backlogs at the start in deadlines.

    The mean over phases of the arrivals, since one phase decides by chance about the first frames.
    """
    repeats, phases = 40, np.arange(0.05, 1, 0.1)
    wrong = []
    for i, (d, b, cv, s) in enumerate(itertools.product(deadlines, backlogs, cvs, services_s)):
        totals, references = Totals(1), []
        for phase in phases.tolist():
            one = chained(
                f32([s]),
                f32([cv]),
                f32([utilisation / s]),
                f32([d * s]),
                backlog_s=f32([b * d * s]),
                horizon_s=horizon_s,
                at=phase,
            )
            for field in vars(totals):
                setattr(totals, field, getattr(totals, field) + getattr(one, field))
            references.append(
                reference_queue(
                    rate_hz=utilisation / s,
                    deadline_s=d * s,
                    service_s=s,
                    cv=cv,
                    horizon_s=horizon_s,
                    phase=phase,
                    rng=np.random.default_rng([i, 8]),
                    repeats=repeats,
                    backlog_s=b * d * s,
                )
            )
        served = [r.arrived - r.dropped for r in references]
        reference = Outcome(
            arrived=sum(r.arrived for r in references),
            dropped=sum(r.dropped for r in references),
            late=sum(r.late for r in references),
            latency_mean_s=float(np.average([r.latency_mean_s for r in references], weights=served)),
            busy_s=sum(r.busy_s for r in references),
        )
        name = f"utilisation {utilisation:g}, deadline {d:g} services, backlog {b:g} deadlines, "
        name += f"cv {cv:g}, service {s:g} s"
        wrong += judge(name, totals, 0, reference, repeats, horizon_s * len(phases), off)
    assert not wrong, f"{len(wrong)} failures:\n" + "\n".join(wrong)


@pytest.mark.parametrize("utilisation", (0.5, 0.8))
def test_a_backlog_is_worked_off(utilisation: float) -> None:
    """After a burst, a cluster change or a slower rung: the wait starts high and falls, over 5 s."""
    transient(utilisation, 5.0, deadlines=(2.0, 4.0, 8.0), backlogs=(0.5, 0.9, 1.5, 3.0), cvs=(0.05,))


@pytest.mark.parametrize("utilisation", (0.1, 0.2, 0.5))
def test_a_backlog_is_worked_off_by_a_few_frames(utilisation: float) -> None:
    """Where frames are rare only the first ones find a backlog: whole frames, however far apart."""
    transient(
        utilisation,
        5.0,
        deadlines=(1.5, 2.0, 4.0, 8.0),
        backlogs=(0.3, 0.6, 1.0, 1.5),
        cvs=(0.05,),
        services_s=SERVICES_S,
    )


def test_one_frame_behind_a_backlog() -> None:
    """It waits for all of it, its own p95 is its latency, and what the next frame finds is what nobody served."""
    one, interval_s = np.ones(1, np.float32), constant(INTERVAL_S)
    service_s, cv, first = 0.05 * one, 0.02 * one, 0 * one
    queue = serve(0.3 * one, first, service_s, cv, one, one, interval_s)
    assert queue.arrived == 1
    assert queue.latency_mean_s == pytest.approx(0.35)
    assert queue.latency_p95_s == pytest.approx(0.35, rel=0.01) and queue.latency_p95_s >= queue.latency_mean_s
    assert queue.busy_s == pytest.approx(0.35)
    queue = serve(0.7 * one, first, service_s, cv, one, 0.5 * one, interval_s)
    assert queue.dropped == queue.arrived == 1
    assert queue.backlog_s == pytest.approx(0.2) and queue.busy_s == pytest.approx(INTERVAL_S)


@pytest.mark.parametrize("utilisation", (1.1, 1.6, 2.5))
@pytest.mark.parametrize("horizon_s", (0.5, 1.0))
def test_a_backlog_builds_up(utilisation: float, horizon_s: float) -> None:
    """When load comes or the clock goes down: the first frames are on time, however little the service varies.

    Within 5 points: one interval holds 6 frames at the least, and how far the wait itself spreads is left out.
    """
    transient(
        utilisation,
        horizon_s,
        deadlines=(2.0, 4.0, 16.0),
        backlogs=(0.0,),
        cvs=(0.002, 0.02, 0.1),
        off=Off(points=0.05),
    )


@pytest.mark.parametrize("cv", WANDERS)
@pytest.mark.parametrize("utilisation", ABOUT_SATURATION)
@pytest.mark.parametrize("horizon_s", (0.5, 1.0, 5.0))
def test_an_empty_queue_about_saturation(utilisation: float, horizon_s: float, cv: float) -> None:
    """Its wait is at rest after many frames only; until then it has come no further than a random walk."""
    deadlines, off = (1.5, 2.0, 4.0, 8.0), WANDERS[cv]
    transient(utilisation, horizon_s, deadlines=deadlines, backlogs=(0.0,), cvs=(cv,), off=off)


def test_no_frames_no_work() -> None:
    """A rate of less than a frame an interval: intervals without arrivals are empty, later ones catch up."""
    service_s = f32([0.1])
    totals = chained(
        service_s,
        f32([0.02]),
        f32([0.25]),
        f32([1.0]),
        backlog_s=np.zeros(1, np.float32),
        horizon_s=40.0,
    )
    assert totals.arrived[0] == 10
    assert totals.missed[0] == pytest.approx(0, abs=1e-3)
    assert totals.busy_s[0] == pytest.approx(1.0, rel=0.05)


def test_a_deadline_cut_to_a_thousandth_of_the_backlog() -> None:
    """Whatever the demand becomes, counts stay numbers: frames behind hundreds of others are all too late."""
    service_s, deadline_s = f32([9e-5, 1.6e-3, 4e-4]), f32([2.4e-4, 2.8e-3, 1.2e-3])
    backlog_s, rate_hz = f32([1.38, 1.69, 1.15]), f32([144.0, 81.0, 54.0])
    interval_s, phase, cv = constant(INTERVAL_S), np.full(3, PHASE, np.float32), np.zeros(3, np.float32)
    queue = serve(backlog_s, phase, service_s, cv, rate_hz, deadline_s, interval_s)
    assert queue.missed.tolist() == queue.dropped.tolist() == queue.arrived.tolist() == [72.0, 41.0, 27.0]
    assert all(np.isfinite(told).all() for told in queue)
