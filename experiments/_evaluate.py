"""Flies controllers through scenarios, each with every seed, and measures them against the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from agents.policy import Privileged, make_policy
from envs.scenario import Scenario
from experiments._jobs import Job, fly_all, telemetry_names
from experiments._metrics import Row
from hw.catalog import open_board
from hw.errors import InputError
from hw.types import BoardSpec, Profile

BOUND = "oracle"
CAREFUL = "performance@auto"  # what a careful person without a controller would do
HELD_OUT = 8  # scenarios of the held-out family in a default comparison

Episode = tuple[str, int]  # scenario, seed


@dataclass(frozen=True)
class Comparison:
    """Rows of every controller asked for, and the two rewards per episode that regret is made of."""

    rows: list[Row]
    bound: Mapping[Episode, float]  # reward_mean of BOUND
    careful: Mapping[Episode, float]  # reward_mean of CAREFUL
    simulated: list[Row]  # the rows of the same flights in simulation, where they were asked for


def check_controllers(controllers: Sequence[str | Path], spec: BoardSpec, profile: Profile) -> None:
    """InputError where a controller is unknown, its file is no policy, or does not fit board or profile."""
    for name in controllers:
        policy = make_policy(str(name))
        if not isinstance(policy, Privileged):
            policy.reset(spec, profile)


def check_scenarios(scenarios: Sequence[Scenario]) -> None:
    """InputError where two scenarios share a name, for results would not tell them apart."""
    names = [s.name for s in scenarios]
    for name in names:
        if names.count(name) > 1:
            raise InputError.at("scenarios", "the same name twice", value=name, want="rename one of the files")


def evaluate(
    controllers: Sequence[str | Path],
    board: str,
    profile: Profile,
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    labels: Mapping[str, str] | None = None,
    telemetry: Path | None = None,
    vary: bool = False,
    backend: str = "sim",
    source: str | None = None,
    simulate_too: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """One row per controller, scenario and seed, in that order; regret is against the oracle on the same two.

    `controllers` are names as `make_policy` takes them; `labels` renames them in the rows. `jobs`
    processes work at a time (1: this one alone). `telemetry` is a folder for a CSV per flight that was asked for.
    `vary`: every seed is another board of the model, the same one for every controller. `backend`: where the
    controllers asked for fly; those that regret is made of fly in simulation always. `source` names the profile where
    it is a file that a real board needs to be opened by. `simulate_too`: whatever flies elsewhere flies in simulation
    besides.
    `on_progress(done, total)` counts episodes. The oracle and `performance@auto` are flown for regret
    whether or not they are asked for.
    Raises InputError where a controller or a scenario does not fit.
    """
    asked = list(dict.fromkeys(str(c) for c in controllers))
    opened = source or profile
    spec = open_board(board, profile=opened).spec
    check_controllers(asked, spec, profile)
    if backend != "sim":
        for name in filter(_is_privileged, asked):
            want = "fly it with --backend sim"
            raise InputError.at("--controllers", "looks into the simulator", value=name, want=want)
        # what it refuses, it refuses before the others fly
        open_board(board, profile=opened, backend=backend, vary=vary).close()
    check_scenarios(scenarios)
    # the clairvoyant ones take longest: first, lest one of them is what everybody waits for at the end
    twins = asked if simulate_too else []
    wanted = [*((name, backend) for name in asked), *((name, "sim") for name in (*twins, BOUND, CAREFUL))]
    flown = sorted(dict.fromkeys(wanted), key=lambda flight: not _is_privileged(flight[0]))
    names = labels or {}
    files: dict[tuple[str, str, str], Path] = {}
    if telemetry is not None:
        kept = [(*flight, s.name) for flight in dict.fromkeys(wanted[: len(asked) + len(twins)]) for s in scenarios]
        told = [(names.get(n, n) + ("" if where == backend else f"-{where}"), s) for n, where, s in kept]
        files = {flight: telemetry / name for flight, name in zip(kept, telemetry_names(told), strict=True)}
    work = [
        Job(
            controller=name,
            label=names.get(name, name),
            board=board,
            profile=profile,
            source=opened,
            backend=where,
            scenario=s,
            seeds=tuple(seeds),
            telemetry=files.get((name, where, s.name)),
            vary=vary,
        )
        for name, where in flown
        for s in scenarios
    ]
    rows: dict[tuple[str, str, str], list[Row]] = {}
    total = len(work) * len(seeds)
    simulated = [job for job in work if job.backend == "sim"]
    # there is one machine: flights on it take turns, and nothing else runs meanwhile
    for job, done in chain(fly_all(simulated, jobs), fly_all([job for job in work if job.backend != "sim"], 1)):
        rows[job.controller, job.scenario.name, job.backend] = done
        if on_progress is not None:
            on_progress(len(rows) * len(seeds), total)

    def rewards(name: str) -> dict[Episode, float]:
        return {(r.scenario, r.seed): r.reward_mean for s in scenarios for r in rows[name, s.name, "sim"]}

    bound = rewards(BOUND)

    def rows_of(names: Sequence[str], where: str) -> list[Row]:
        return [
            replace(r, regret=bound[r.scenario, r.seed] - r.reward_mean)
            for name in names
            for s in scenarios
            for r in rows[name, s.name, where]
        ]

    return Comparison(rows_of(asked, backend), bound, rewards(CAREFUL), rows_of(twins, "sim"))


def _is_privileged(name: str) -> bool:
    return isinstance(make_policy(name), Privileged)
