"""Controllers on scenarios, a job each: flown here or in processes beside this one, their telemetry kept."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib

from agents.policy import Privileged, make_policy
from agents.runtime import control
from envs.reward import DEFAULT_WEIGHTS
from envs.scenario import Scenario
from experiments._metrics import Row, episode_row
from experiments._telemetry import write_telemetry
from hw.catalog import open_board
from hw.errors import InputError, Refused
from hw.real.board import LinuxBoard
from hw.simulated.board import SimBoard
from hw.types import Demand, Profile, Telemetry


@dataclass(frozen=True, kw_only=True)
class Job:
    """One controller on one scenario, all seeds: what a process is handed."""

    controller: str
    label: str
    board: str
    profile: Profile
    source: Profile | str  # what the board is opened with: a measured profile has things beside it
    backend: str
    scenario: Scenario
    seeds: tuple[int, ...]
    telemetry: Path | None  # what the names of its files begin with; the seed follows, and .csv
    vary: bool


def default_jobs() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def telemetry_names(flights: Iterable[tuple[str, str]]) -> list[str]:
    """What the names of the files of these flights (label, scenario) begin with; no two alike."""
    found: list[str] = []
    for label, scenario in flights:
        plain = re.sub(r"[^\w@.-]+", "_", label)
        name, n = f"{plain}-{scenario}", 2
        while name in found:
            name, n = f"{plain}-{n}-{scenario}", n + 1
        found.append(name)
    return found


def fly_all(work: Sequence[Job], jobs: int) -> Iterator[tuple[Job, list[Row]]]:
    """(job, rows) of each job as it is done, in any order; `jobs` processes work at a time (1: this one alone)."""
    jobs = min(jobs, len(work))
    if jobs <= 1:
        for job in work:
            yield job, _fly(job)
        return
    # BLAS threads beside the processes would fight for the same cores
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        done = parallel(joblib.delayed(_numbered)(i, job) for i, job in enumerate(work))
        for i, rows in done:
            yield work[i], rows


def _numbered(i: int, job: Job) -> tuple[int, list[Row]]:
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of the terminal; the parent alone answers it and ends the others
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return i, _fly(job)


def _fly(job: Job) -> list[Row]:
    """The rows of a job."""
    board = open_board(job.board, profile=job.source, backend=job.backend, vary=job.vary)
    policy = make_policy(job.controller)
    rows = []
    try:
        if isinstance(board, LinuxBoard):
            board.prepare(job.scenario.backgrounds(board.spec))
        for seed in job.seeds:
            if isinstance(policy, Privileged):
                assert isinstance(board, SimBoard)  # the caller has seen to it
                policy.bind(board, job.scenario, DEFAULT_WEIGHTS)
            first = board.reset(seed=seed)  # control() resets to the same again; nobody else shows it
            demands: list[Demand] = []

            def hear(k: int, demand: Demand, telemetry: Telemetry, demands: list[Demand] = demands) -> None:
                demands.append(demand)

            try:
                record = control(board, policy, job.scenario, job.profile, seed=seed, on_interval=hear)
            except (InputError, Refused) as error:
                raise type(error)(f"controller {job.controller}, scenario {job.scenario.name}: {error}") from error
            rows.append(
                episode_row(job.label, job.scenario.name, seed, first, record, demands, job.profile, DEFAULT_WEIGHTS)
            )
            if job.telemetry is not None:
                file = job.telemetry.with_name(f"{job.telemetry.name}-{seed}.csv")
                write_telemetry(file, board.spec, demands, record)
    finally:
        board.close()
    return rows
