"""Flies a saved policy on a board; needs nothing beyond numpy.

python experiments/deploy_policy.py --policy runs/RUN/policy.npz --board xu3 --backend sim
"""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from agents.policy import make_policy
from agents.runtime import control
from envs.families import scenario_set
from envs.scenario import Scenario, load_scenario
from experiments._cli import INTERRUPT_STATUS, main_guard
from experiments._telemetry import TelemetryFile
from hw.catalog import BACKENDS, open_board
from hw.errors import InputError
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry


def main() -> int:
    """Run the command; the exit status."""
    args = _arguments()
    if args.intervals is not None and args.intervals < 1:
        raise InputError.at("--intervals", "too low", value=args.intervals, want="at least 1")
    if args.seed < 0:
        raise InputError.at("--seed", "too low", value=args.seed, want="at least 0")
    board = open_board(args.board, profile=args.profile, backend=args.backend)
    policy = make_policy(args.policy)
    policy.reset(board.spec, board.profile)  # whether it fits, before anything is written
    scenario = _scenario(args.scenario, board.spec, board.profile)
    file = None if args.telemetry is None else TelemetryFile(args.telemetry, board.spec)
    flight = _Flight(board.spec, file)
    count = scenario.n_intervals(board.spec.interval_s)
    count = count if args.intervals is None else min(count, args.intervals)
    _say(
        f"{args.policy} on {board.spec.name} ({args.backend}), scenario {scenario.name}, {count} intervals "
        f"of {board.spec.interval_s:g} s; profile {board.profile.name!r}, kind {board.profile.kind}"
    )
    interrupted = False
    try:
        control(
            board,
            policy,
            scenario,
            board.profile,
            seed=args.seed,
            intervals=args.intervals,
            on_interval=flight.hear,
        )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        board.close()
        if file is not None:
            file.commit()  # whatever ended the flight: its rows are kept
    _say(flight.summary())
    where = "" if file is None else f"; telemetry of {file.rows} intervals in {file.path}"
    if interrupted:
        print(f"interrupted after {flight.intervals} intervals{where}", file=sys.stderr)
        return INTERRUPT_STATUS
    if where:
        _say(where.removeprefix("; "))
    return 0


class _OneLine(argparse.ArgumentParser):
    """argparse with errors as every command of ours words them."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help shows all options")


def _arguments() -> argparse.Namespace:
    parser = _OneLine(description="Fly a saved policy on a board, with one line per control interval.")
    parser.add_argument("--policy", required=True, metavar="FILE.npz", help="saved policy, or a governor's name")
    parser.add_argument("--board", required=True, help="board: a name, or a board's .toml file")
    parser.add_argument("--backend", choices=BACKENDS, default="sim", help="where it flies (default: sim)")
    parser.add_argument("--profile", help="profile: a name or a .csv file (default: the board's own)")
    parser.add_argument("--scenario", metavar="FILE", help="scenario file (default: one of the held-out family)")
    parser.add_argument("--intervals", type=int, metavar="N", help="stop after N intervals")
    parser.add_argument("--telemetry", metavar="FILE", help="write telemetry as CSV")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated board's noise (default: 0)")
    return parser.parse_args()


def _scenario(path: str | None, spec: BoardSpec, profile: Profile) -> Scenario:
    """The scenario of a file, or the first of the held-out family."""
    return load_scenario(path, spec) if path else scenario_set("held_out", spec, profile, 1)[0]


class _Flight:
    """Hears of every interval: prints it, files it, and adds up."""

    def __init__(self, spec: BoardSpec, file: TelemetryFile | None) -> None:
        self._spec, self._file = spec, file
        self.intervals = 0
        self._frames = self._missed = 0
        self._energy_j: float | None = 0.0

    def hear(self, k: int, demand: Demand, telemetry: Telemetry) -> None:
        """Interval `k` ended."""
        if self._file is not None:
            self._file.write(k, demand, telemetry)
        self.intervals += 1
        self._frames += telemetry.frames
        self._missed += telemetry.missed
        total_j = telemetry.total_energy_j
        self._energy_j = None if total_j is None or self._energy_j is None else self._energy_j + total_j
        _say(self._line(k, demand, telemetry, total_j))

    def _line(self, k: int, demand: Demand, t: Telemetry, total_j: float | None) -> str:
        asked, granted = self._knobs(t.asked), self._knobs(t.granted)
        mean, p95 = _ms(t.latency_mean_s), _ms(t.latency_p95_s)
        floor = "no floor" if demand.accuracy_min <= 0 else f">={100 * demand.accuracy_min:.1f} %"
        parts = (
            f"{(k + 1) * t.interval_s:6.1f} s",
            f"{demand.rate_hz:5.1f}/s in {1e3 * demand.deadline_s:4.0f} ms, {floor}, {demand.goal}",
            asked if asked == granted else f"{asked} -> {granted}",
            f"{mean} ms, p95 {p95}",
            f"missed {t.missed}/{t.frames}",
            "  -   W" if total_j is None else f"{total_j / t.interval_s:5.2f} W",
            f"{max(t.temp_c.values()):3.0f} C" + (" throttled" if t.throttled else ""),
        )
        return " | ".join(parts)

    def _knobs(self, knobs: Knobs) -> str:
        ghz = " ".join(f"{c.name} {knobs.freqs_hz[c.name] / 1e9:.2f}" for c in self._spec.clocks)
        return f"rung {knobs.rung} {knobs.unit}x{knobs.cores}, {ghz} GHz"

    def summary(self) -> str:
        """The flight in a line."""
        frames = max(self._frames, 1)
        energy = "energy unknown" if self._energy_j is None else f"{1e3 * self._energy_j / frames:.1f} mJ per frame"
        return f"{self._frames} frames: {energy}, {100 * self._missed / frames:.2f} % missed"


def _ms(seconds: float | None) -> str:
    return "   -" if seconds is None else f"{1e3 * seconds:4.0f}"


def _say(line: str) -> None:
    print(line, flush=True)  # a pipe shows each interval as it ends


if __name__ == "__main__":
    main_guard(main)
