"""The rules of GPU clocks worked out by hand for the Jetson Nano's, and the controllers that fly them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agents.baselines.cpufreq import Rule, Schedutil
from agents.baselines.devfreq import Podgov, SimpleOndemand
from agents.policy import GPU_GOVERNOR_NAMES, make_policy, policy_names
from agents.runtime import control
from envs.families import scenario_set
from hw.boardfile import load_board
from hw.catalog import open_board
from hw.errors import InputError
from hw.simulated.board import SimBoard
from hw.types import Clock, Demand, Telemetry

SPEC = load_board("jetson_nano").spec
GPU, A57 = SPEC.clock("gpu"), SPEC.clock("a57")
DEMAND = Demand(rate_hz=20.0, deadline_s=0.02, accuracy_min=0.62, energy_budget_j=0.1, goal="min_energy")


def settle(rule: type[Rule], freq_mhz: float, load: float, interval_s: float = 0.5, clock: Clock = GPU) -> float:
    """MHz."""
    return clock.freqs_hz[rule(clock, interval_s).settle(freq_mhz * 1e6, load)] / 1e6


@pytest.mark.parametrize(
    ("freq", "load", "mhz"),
    [
        # a third of 921 is 307; over 900 per mille: up by it, undamped
        (460.8, 0.95, 768.0),  # 460 + 307 = 767
        (460.8, math.inf, 768.0),
        (844.8, 1.0, 921.6),
        (76.8, 1.0, 384.0),  # 76 + 307 = 383
        # Fresh, the mean of the cycles is 0: 0.8 x 460.8 / 11 = 33.5 MHz, load 72, boost -628 x 80 x 460 / 70000 =
        # -330, request 130, its mean 130 / 11 = 11, damped (7 x 130 + 3 x 11) / 10 = 94.
        (460.8, 0.80, 153.6),
        # 900 is not above 900. Cycles 37.7, load 81, boost -325, request 135, mean 12, damped 98.
        (460.8, 0.90, 153.6),
        # nothing to do: boost -700 x 80 x 921 / 70000 = -736, request 185, mean 16, damped 134
        (921.6, 0.0, 153.6),
    ],
)
def test_one_poll_of_podgov(freq: float, load: float, mhz: float) -> None:
    assert settle(Podgov, freq, load, interval_s=0.025) == pytest.approx(mhz)


def test_podgov_damps_with_the_mean_of_its_requests_and_waits_after_a_change() -> None:
    """Polls at 614.4 MHz, half busy. Loads by the mean are 45 and, at the third, 124: boosts -459 and -404, requests
    155 and 210, their means 14 and 31; damped (1085 + 42) / 10 = 112 and (1470 + 93) / 10 = 156. The second poll is
    25 ms after a change: the mean moves, the clock does not."""
    rule = Podgov(GPU, 0.025)
    for mhz, cycles_mean, request_mean in ((153.6, 27927272, 14), (614.4, 53315701, 14), (230.4, 76396091, 31)):
        assert GPU.freqs_hz[rule.settle(614.4e6, 0.5)] == pytest.approx(mhz * 1e6)
        assert (rule._cycles_mean, rule._request_mean) == (cycles_mean, request_mean)


@pytest.mark.parametrize(
    ("before", "after", "trace"),
    [
        (0.1, 0.1, [153.6, 153.6, 153.6]),
        (0.8, 0.0, [384.0, 153.6, 76.8]),
        (0.8, 0.2, [537.6, 384.0, 307.2]),
    ],
)
def test_podgov_follows_work(before: float, after: float, trace: list[float]) -> None:
    """Work as a share of the top clock; an interval of 0.5 s each. Worked out by a transcript of the kernel's file."""
    rule, mhz, found = Podgov(GPU, 0.5), 921.6, []
    for work in [before] * 8 + [after] * 3:
        mhz = GPU.freqs_hz[rule.settle(mhz * 1e6, work * 921.6 / mhz)] / 1e6
        found.append(mhz)
    assert found[8:] == pytest.approx(trace)


@pytest.mark.parametrize("start", [76.8, 384.0, 614.4, 921.6])
def test_podgov_aims_at_seventy_percent(start: float) -> None:
    """Work of 0.7 x 614.4 MHz: from below it ends there, from above at most a step higher, as it rounds up."""
    rule, mhz = Podgov(GPU, 0.5), start
    work = 0.7 * 614.4
    trace = []
    for _ in range(12):
        mhz = GPU.freqs_hz[rule.settle(mhz * 1e6, work / mhz)] / 1e6
        trace.append(mhz)
    assert trace[-1] == trace[-2] == trace[-3]
    assert trace[-1] in (614.4, 691.2)


def test_podgov_comes_down_when_there_is_nothing_to_do_and_leaps_when_there_is() -> None:
    rule = Podgov(GPU, 0.5)
    for _ in range(5):
        index = rule.settle(921.6e6, 0.0)
    assert index == 0
    assert rule.settle(GPU.freqs_hz[0], math.inf) == len(GPU.freqs_hz) - 1


@pytest.mark.parametrize(
    ("freq", "load", "mhz"),
    [
        (460.8, 0.91, 537.6),  # first to the top; 46 % of that makes 477
        (460.8, 0.90, 460.8),  # 90 is not above 90
        (460.8, 0.86, 460.8),  # between 85 and 90: keep
        (460.8, 0.85, 460.8),  # 85 x 460.8 / 88 = 445
        (460.8, 0.73, 384.0),  # 382
        (921.6, 0.50, 537.6),  # 524; there it is 86 % busy and stays
        (76.8, 6.0, 537.6),  # the same work, saturated at the lowest: first to the top
        (921.6, 0.0, 76.8),
        (76.8, math.inf, 921.6),
    ],
)
def test_simple_ondemand(freq: float, load: float, mhz: float) -> None:
    assert settle(SimpleOndemand, freq, load) == pytest.approx(mhz)


def l4t_schedutil(clock: Clock, freq_hz: float, work: float) -> float:
    """MHz after 0.5 s of L4T's rule, tick by tick; `work` is the share of the top clock that would be busy.

    Utilisation (half-life 32 ms) follows what runs; f = 1.25 fmax u, up at most every 500 us, down every 2000 us.
    """
    tick_s, top, since = 100e-6, clock.max_hz, 1.0
    utilisation = min(work, freq_hz / top)
    for _ in range(round(0.5 / tick_s)):
        utilisation += (min(work, freq_hz / top) - utilisation) * math.log(2) / 0.032 * tick_s
        wanted = clock.freqs_hz[clock.at_least(1.25 * top * utilisation)]
        since += tick_s
        if (wanted > freq_hz and since >= 500e-6) or (wanted < freq_hz and since >= 2000e-6):
            freq_hz, since = wanted, 0.0
    return freq_hz / 1e6


@pytest.mark.parametrize("start", A57.freqs_hz[::7])
@pytest.mark.parametrize("work", [0.0, 0.03, 0.1, 0.25, 0.5, 0.7, 0.9, math.inf])
def test_l4t_s_schedutil_settles_where_mainline_s_does(start: float, work: float) -> None:
    load = work * A57.max_hz / start
    assert settle(Schedutil, start / 1e6, load, clock=A57) == pytest.approx(l4t_schedutil(A57, start, work))


@pytest.fixture(scope="module")
def board() -> SimBoard:
    return open_board("jetson_nano", profile="paper")


def busy(board: SimBoard, *, a57: float, gpu: float) -> Telemetry:
    return replace(board.reset(seed=1), peak_utilisation={"a57": a57, "gpu": gpu})


def test_the_network_on_the_gpu_the_cpus_by_schedutil(board: SimBoard) -> None:
    """From the lowest clocks, 102 and 76.8 MHz: a CPU half busy wants 1.25 x 51 MHz, one at 90 % 115 MHz."""
    for a57, mhz in ((0.5, 102.0), (0.9, 204.0)):
        policy = make_policy("podgov@2")
        policy.reset(board.spec, board.profile)
        knobs = policy.act(busy(board, a57=a57, gpu=1.0), DEMAND)
        assert (knobs.rung, knobs.unit, knobs.cores) == (2, "gpu", 1)
        assert knobs.freqs_hz == {"a57": mhz * 1e6, "gpu": 921.6e6}


def test_on_the_cpu_the_gpu_s_clock_stays_down(board: SimBoard) -> None:
    policy = make_policy("performance@2")
    policy.reset(board.spec, board.profile)
    knobs = policy.act(busy(board, a57=0.5, gpu=1.0), DEMAND)
    assert (knobs.unit, knobs.cores) == ("a57", 4)
    assert knobs.freqs_hz == {"a57": 1479e6, "gpu": 76.8e6}


@pytest.mark.parametrize("name", GPU_GOVERNOR_NAMES)
def test_auto_asks_what_the_gpu_can_do(name: str, board: SimBoard) -> None:
    """Full speed: rung 4 takes 4.9 ms on the GPU, 16 ms on four cores."""
    policy = make_policy(f"{name}@auto")
    policy.reset(board.spec, board.profile)
    idle = board.reset(seed=1)
    assert policy.act(idle, DEMAND).rung == 2  # the floor's
    assert policy.act(idle, replace(DEMAND, goal="max_accuracy", deadline_s=0.005)).rung == 4
    assert policy.act(idle, replace(DEMAND, goal="max_accuracy", deadline_s=0.002)).rung == 1


@pytest.mark.parametrize("name", GPU_GOVERNOR_NAMES)
def test_a_flight_serves_its_frames(name: str, board: SimBoard) -> None:
    scenario = scenario_set("held_out", board.spec, board.profile, 1)[0]
    record = control(board, make_policy(f"{name}@auto"), scenario, board.profile, seed=3)
    assert {t.asked.unit for t in record} == {"gpu"}
    # settled at the mean load they are slow for a tight deadline (DECISIONS), but they do serve
    assert sum(t.missed for t in record) <= sum(t.frames for t in record) / 3
    assert len({t.granted.freqs_hz["gpu"] for t in record}) > 1


@pytest.mark.parametrize("name", GPU_GOVERNOR_NAMES)
def test_a_board_without_a_gpu_refuses_them_and_does_not_list_them(name: str) -> None:
    xu3 = open_board("xu3")
    with pytest.raises(InputError, match=f"'{name}'.*no GPU|no GPU.*'{name}'"):
        make_policy(f"{name}@1").reset(xu3.spec, xu3.profile)
    assert not any(name in known for known in policy_names(4, xu3.spec))
    assert f"{name}@auto" in policy_names(4, SPEC)
