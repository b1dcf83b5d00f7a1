"""The one loop: what flies on the device is what is compared in the lab."""

from __future__ import annotations

from collections.abc import Callable

from agents.policy import Policy
from envs.scenario import Scenario
from hw.profile import flown_profile
from hw.types import Board, Demand, Profile, Telemetry


def control(
    board: Board,
    policy: Policy,
    scenario: Scenario,
    profile: Profile | None = None,
    *,
    seed: int | None = None,
    intervals: int | None = None,
    on_interval: Callable[[int, Demand, Telemetry], None] | None = None,
) -> list[Telemetry]:
    """Fly `policy` on `board` through `scenario`; the telemetry of every interval, in order.

    Ends with the scenario, or after `intervals` where that is sooner. The scenario's background work is
    injected when its row changes. `profile`: what the policy is shown (None: the one the board carries, InputError
    where it carries none). `on_interval(k, demand, telemetry)` hears of every interval as it ends.
    The board stays open, `close()` belongs to the caller; whatever board or policy raises goes through.
    """
    spec, profile = board.spec, flown_profile(board, profile)
    count = scenario.n_intervals(spec.interval_s)
    if intervals is not None:
        count = min(count, intervals)
    telemetry = board.reset(seed=seed)
    policy.reset(spec, profile)
    changes = scenario.changes(spec.interval_s)
    record: list[Telemetry] = []
    for k in range(count):
        if k in changes:
            demand = scenario.demand(changes[k])
            board.inject(scenario.background(changes[k], spec))
        telemetry = board.step(policy.act(telemetry, demand), demand)
        record.append(telemetry)
        if on_interval is not None:
            on_interval(k, demand, telemetry)
    return record
