"""Contention against measured slow-downs: 1 to 4 copies of a program on the XU3's four A15 cores.

Figures from public measurements of an XU3 (Powmon; M. J. Walker 2018, BSD-3-Clause), at 1.8 GHz: busy cycles per
instruction of one of n copies over those of a copy alone. The memory-bound share of a program is b / t of
`t = a / f + b` over its nine clocks alone, its traffic event 0x19 (bus accesses of 16 bytes) per second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hw.boardfile import board_names, load_board
from hw.clip import constant
from hw.profile import open_profile
from hw.real import hostfile
from hw.simulated import physics
from hw.simulated.board import SimBoard
from hw.simulated.tables import build_tables
from hw.types import Demand, Knobs, Load, OperatingPoint, Profile
from tests.arrays import f32

MODEL = load_board("xu3")
SPEC = MODEL.spec
A15 = SPEC.unit("a15")
PLACE = SPEC.placements.index(("a15", 1))
TOP_HZ = 1.8e9
COMPUTE, MEMORY = 0.10, 0.20  # wanted: relative error


@dataclass(frozen=True)
class Program:
    """A program and how much longer one of 2, 3 and 4 copies took."""

    name: str
    memory_share: float  # of its time alone at 1.8 GHz
    gbps: float  # its traffic alone
    slower: tuple[float, float, float]

    wanted: float = COMPUTE  # what is memory-bound by counters may err by MEMORY


PROGRAMS = (
    Program("compute (Dhrystone, NEON, bitcount)", 0.0, 0.0, (1.00, 1.00, 1.00)),
    Program("jpeg_enc", 0.04, 0.1, (1.03, 1.04, 1.04)),  # its traffic is a guess: no row of it is public
    Program("ispell", 0.08, 0.01, (1.12, 1.23, 1.34)),
    Program("typeset", 0.12, 0.10, (1.07, 1.18, 1.30)),
    Program("gcc", 0.18, 0.27, (1.08, 1.15, 1.24)),
    Program("dijkstra", 0.22, 0.01, (1.08, 1.17, 1.33)),
    Program("par_mem", 0.28, 1.14, (1.13, 1.30, 1.29), MEMORY),
    Program("cstm_bmp", 0.41, 0.01, (1.14, 1.54, 2.04), MEMORY),
    Program("bw_mem_rd", 0.48, 1.73, (1.32, 1.65, 2.03), MEMORY),
    Program("bw_mem_wr", 0.72, 1.98, (1.32, 1.54, 1.92), MEMORY),
)
CASES = [(p, n) for p in PROGRAMS for n in (2, 3, 4)]
IDS = [f"{p.name.split()[0]}-{n}" for p, n in CASES]


def modelled(program: Program, copies: int, *, traffic: bool = True) -> float:
    """The slow-down of one of these copies by the laws: the others are background work of as many cores."""
    tables = build_tables(MODEL, open_profile(SPEC, None))
    _, free_cores, streams_per_gbps = tables.placement[:, PLACE]
    busy = f32(copies - 1)
    gbps = f32((copies - 1) * program.gbps if traffic else 0.0)
    share = physics.core_share(f32(free_cores), busy, constant(MODEL.contention.min_share))
    crowd = physics.crowd(busy, share.shared, gbps * streams_per_gbps)
    crowded_s = physics.crowded_time(f32(1.0), f32(program.memory_share), MODEL.contention.stall_stretch)
    return float(physics.service_time(f32(1.0), crowded_s, share.share, crowd)[0])


@pytest.mark.parametrize("traffic", [True, False], ids=["with traffic", "busy cores alone"])
@pytest.mark.parametrize(("program", "copies"), CASES, ids=IDS)
def test_slow_down_of_copies(program: Program, copies: int, traffic: bool) -> None:
    """Within 10 % for compute, 20 % for the rest, whether or not the scenario tells the copies' traffic besides."""
    measured = program.slower[copies - 2]
    assert modelled(program, copies, traffic=traffic) == pytest.approx(measured, rel=program.wanted)


def test_mean_error_of_the_table() -> None:
    """What the docs say of the law: 6 % on average, 20 % at worst."""
    off = np.abs([modelled(p, n) / p.slower[n - 2] - 1 for p, n in CASES])
    assert off.mean() < 0.065 and off.max() < 0.20


def test_every_board_has_the_stretch_that_was_measured() -> None:
    """One board's copies were measured; the others, and a machine of one's own, say that they take its stretch."""
    for name in board_names():
        assert load_board(name).contention.stall_stretch == MODEL.contention.stall_stretch, name
    assert f"\nstall_stretch = {MODEL.contention.stall_stretch:g} " in Path(hostfile.__file__).read_text()


def network_like(program: Program) -> Profile:
    """The profile that ships with the latencies of this program: so much of them memory-bound at 1.8 GHz."""
    shipped = open_profile(SPEC, None)

    def at(point: OperatingPoint) -> OperatingPoint:
        latency_s = 0.02 * ((1 - program.memory_share) * TOP_HZ / point.freq_hz + program.memory_share)
        return replace(point, latency_mean_s=latency_s, latency_std_s=0.0, latency_p95_s=latency_s)

    return replace(shipped, points=tuple(at(p) for p in shipped.points))


def flown_s(board: SimBoard, knobs: Knobs, load: Load) -> float:
    """Mean latency of few frames under this load, on a board that stays cool."""
    demand = Demand(rate_hz=4.0, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
    board.reset(seed=0)
    board.inject(load)
    for _ in range(3):  # the first pays for the switch
        telemetry = board.step(knobs, demand)
    assert telemetry.latency_mean_s is not None and not telemetry.throttled
    return telemetry.latency_mean_s


@pytest.mark.parametrize("program", [PROGRAMS[0], PROGRAMS[4], PROGRAMS[8]], ids=["compute", "gcc", "bw_mem_rd"])
def test_slow_down_in_flight(program: Program) -> None:
    """The same through a simulated board: frames of such a program, copies of it as background load."""
    knobs = Knobs(rung=1, unit="a15", cores=1, freqs_hz={"a7": 2e8, "a15": TOP_HZ})
    board = SimBoard(MODEL, network_like(program))
    latency_s = [
        flown_s(board, knobs, Load(busy={"a15": others}, mem_gbps=others * program.gbps, ambient_c=0.0))
        for others in range(4)
    ]
    assert latency_s[0] == pytest.approx(0.02, rel=0.01)
    assert np.array(latency_s[1:]) / latency_s[0] == pytest.approx(np.array(program.slower), rel=program.wanted)


def test_who_crowds_whom() -> None:
    """Busy cores beside ours crowd; a task that shares our core runs when we do not; traffic counts from anywhere."""

    def crowd(cores: float, unit_cores: float, busy: float, streams: float = 0.0) -> float:
        share = physics.core_share(f32(unit_cores - cores), f32(busy), constant(MODEL.contention.min_share))
        return float(physics.crowd(f32(busy), share.shared, f32(streams))[0])

    assert crowd(1, 4, 0) == 0.0
    assert [crowd(1, 4, busy) for busy in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 3.0]
    assert [crowd(4, 4, busy) for busy in (0.5, 1, 2, 4)] == [0.0, 0.0, 0.0, 0.0]
    assert [crowd(2, 4, busy) for busy in (1, 2, 3, 4)] == [1.0, 2.0, 2.0, 2.0]
    assert crowd(1, 1, 1) == 0.0  # a GPU is shared by time slices
    assert crowd(1, 4, 1, streams=2.5) == 2.5 and crowd(1, 4, 3, streams=2.5) == 3.0
    assert crowd(1, 1, 0, streams=1.0) == 1.0


@pytest.mark.parametrize("program", [PROGRAMS[0], PROGRAMS[8]], ids=["compute", "bw_mem_rd"])
@pytest.mark.parametrize("cores", [2, 4])
def test_half_of_a_core_is_half_the_speed(program: Program, cores: int) -> None:
    """Whatever a frame waits for: in another's time slice it does not get on. Its neighbours crowd it besides."""
    knobs = Knobs(rung=1, unit="a15", cores=cores, freqs_hz={"a7": 2e8, "a15": TOP_HZ})
    board = SimBoard(MODEL, network_like(program))
    beside_s, shared_s = (flown_s(board, knobs, Load(busy={"a15": n}, ambient_c=0.0)) for n in (4.0 - cores, 4.0))
    assert shared_s / beside_s == pytest.approx(2.0, rel=0.01)


def test_a_gpu_is_shared_by_time_slices() -> None:
    nano = load_board("jetson_nano")
    board = SimBoard(nano, open_profile(nano.spec, None))
    knobs = Knobs(rung=4, unit="gpu", cores=1, freqs_hz={c.name: c.max_hz for c in nano.spec.clocks})
    alone_s, shared_s = (flown_s(board, knobs, Load(busy={"gpu": share}, ambient_c=0.0)) for share in (0.0, 1.0))
    assert shared_s / alone_s == pytest.approx(2.0, rel=0.01)


SHARING = [(PROGRAMS[0], 1), (PROGRAMS[0], 2), (PROGRAMS[0], 3), (PROGRAMS[0], 4), (PROGRAMS[8], 4)]


@pytest.mark.parametrize(("program", "cores"), SHARING, ids=["1", "2", "3", "4", "4-bw_mem_rd"])
@pytest.mark.parametrize("min_share", [0.2, 0.5, 0.8])
def test_a_shared_core_is_one_core(min_share: float, program: Program, cores: int) -> None:
    """Network and background work on the same cores draw as these cores do, whatever the kernel's shares are."""
    model = replace(MODEL, contention=replace(MODEL.contention, min_share=min_share))
    top, law = {"a7": 2e8, "a15": TOP_HZ}, model.units[1]
    clock = SPEC.clock("a15")
    core_w = law.background_nf * 1e-9 * clock.volts[clock.nearest(TOP_HZ)] ** 2 * TOP_HZ
    idle_w = model.idle_rail_w(top, model.reference_temp_c)["a15"]
    like = network_like(program)
    profile = replace(like, points=tuple(replace(p, power_w=idle_w + cores * core_w) for p in like.points))
    drawn_w = {}
    for unit in ("a7", "a15"):
        board = SimBoard(model, profile)
        board.reset(seed=0)
        board.inject(Load(busy={"a15": 4.0}))
        saturated = Demand(rate_hz=1e3, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
        board.step(Knobs(rung=1, unit=unit, cores=cores, freqs_hz=top), saturated)
        drawn_w[unit] = board.exact_energy_j["a15"] / SPEC.interval_s
    assert drawn_w["a15"] == pytest.approx(drawn_w["a7"], rel=1e-3)


@pytest.mark.parametrize("rate_hz", [5.0, 60.0, 500.0])
def test_of_one_core_the_mean_is_the_busiest(rate_hz: float) -> None:
    """A GPU is one core: what network and background share of it is not busy twice."""
    nano = load_board("jetson_nano")
    board = SimBoard(nano, open_profile(nano.spec, None))
    board.reset(seed=0)
    board.inject(Load(busy={"gpu": 0.5}))
    demand = Demand(rate_hz=rate_hz, deadline_s=1.0, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
    knobs = Knobs(rung=4, unit="gpu", cores=1, freqs_hz={c.name: c.freqs_hz[0] for c in nano.spec.clocks})
    for _ in range(3):
        telemetry = board.step(knobs, demand)
        assert telemetry.utilisation["gpu"] == pytest.approx(telemetry.peak_utilisation["gpu"], abs=1e-5)
        assert telemetry.utilisation["gpu"] > 0.5
