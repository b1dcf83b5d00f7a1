"""One flight: the policy under watch, the supervisor beside it, and what is said and filed of every interval."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping
from typing import Any

from agents.policy import Policy
from agents.runtime import control
from agents.supervisor import FIRST_S, SLACK_S, START_S, Supervisor, tell
from agents.watch import Fault, Pilot, Shadow, Watch
from envs.scenario import Scenario
from experiments._cli import FAULT_STATUS, INTERRUPT_STATUS
from experiments._lines import Lines, say
from experiments._telemetry import FlightLog
from hw.errors import BoardError, PowerbandError
from hw.real.board import LinuxBoard
from hw.simulated.board import SimBoard
from hw.types import BoardSpec, Demand, Knobs, Telemetry


class Flight:
    """A flight of one policy; `fly` does it, once."""

    def __init__(
        self,
        board: SimBoard | LinuxBoard,
        policy: Policy,
        *,
        title: str,
        hot_c: float,
        fallback: Policy | None = None,
        fallback_name: str = "",
        file: FlightLog | None = None,
    ) -> None:
        """`title`: said once the board is ours. `hot_c`: see `Watch`. `file`: opened, and closed here."""
        self._board, self._spec, self._file = board, board.spec, file
        # files to put back, load to prepare, time that it takes to set and read: a simulated board has none of these
        self._machine = board if isinstance(board, LinuxBoard) else None
        self._root = None if self._machine is None else self._machine.root
        self._shadow = policy if isinstance(policy, Shadow) else None
        self._fallback_name = fallback_name
        self._pilot = Pilot(
            policy, Watch(hot_c), fallback=fallback, on_interval=self._beat, on_handover=self._hand_over
        )
        self._supervisor: Supervisor | None = None
        self._begun = self._doubted = False
        self._lines = Lines()
        self._told = [title, *self._found()]  # found before the governors are ours
        self._intervals = self._frames = self._missed = 0
        self._t_s = 0.0
        self._energy_j: float | None = 0.0
        self._overhead_s: list[float] = []

    def fly(self, scenario: Scenario, *, seed: int | None, intervals: int) -> int:
        """Fly and put the board back; the exit status.

        Raises what the board does before the first interval and where it cannot be put back. What ends the flight
        after that is told in a line.
        """
        status, reason = 0, ""
        try:
            if self._machine is not None:
                self._machine.prepare(scenario.backgrounds(self._spec))  # before anybody waits for a beat
                self._supervisor = Supervisor(self._machine.root, self._machine.awaited)
            control(
                self._board,
                self._pilot,
                scenario,
                self._board.profile,
                seed=seed,
                intervals=intervals,
                on_interval=self._hear,
            )
        except KeyboardInterrupt:
            status, reason = INTERRUPT_STATUS, f"interrupted after {self._intervals} intervals"
        except PowerbandError as error:
            if not self._begun:
                raise
            status, reason = FAULT_STATUS, f"flight ended after {self._intervals} intervals: {error}"
        finally:
            try:
                self._land()
            except PowerbandError as error:
                raise PowerbandError("; ".join(part for part in (reason, str(error)) if part)) from None
        self._lines.close()
        say(self.summary())
        where = "" if self._file is None else f"telemetry of {self._file.rows} intervals in {self._file.path}"
        if reason:
            tell(self._root, "; ".join(part for part in (reason, where) if part))
        elif where:
            say(where)
        return status

    def _land(self) -> None:
        """Put the board back; then nobody needs to watch any more."""
        try:
            if self._supervisor is not None:
                with contextlib.suppress(Fault):
                    self._supervisor.beat(START_S)
            self._board.close()
            if self._supervisor is not None:
                self._supervisor.close()
        finally:
            if self._file is not None:
                self._file.close()

    def _beat(self) -> None:
        promise_s = self._spec.interval_s + SLACK_S if self._begun else FIRST_S
        if not self._begun:
            self._say("\n".join(self._told))
        self._begun = True
        if self._supervisor is not None:
            self._supervisor.beat(promise_s)

    def _found(self) -> list[str]:
        """What the driver finds on a machine, in a line; none for a simulated board, which has nothing to find."""
        if self._machine is not None:
            with contextlib.suppress(BoardError):  # no flight ends for want of a line
                return [found(self._machine.record)]
        return []

    def _hand_over(self, reason: str) -> None:
        self._tell(f"after {self._intervals} intervals: {reason}; {self._fallback_name} takes over")

    def _say(self, text: str) -> None:
        if self._supervisor is None:
            say(text)
        else:
            self._lines.say(text)

    def _tell(self, text: str) -> None:
        """As `_say`, on standard error; the machine's log has it."""
        tell(self._root, text, wait=self._supervisor is None)

    def _hear(self, k: int, demand: Demand, telemetry: Telemetry) -> None:
        """Interval `k` ended: print it, file it, add up."""
        asked = telemetry.asked if self._shadow is None else self._shadow.would
        if self._shadow is not None and asked is None and not self._doubted:
            self._tell(f"after {k} intervals: {self._shadow.trouble}; what it would do is missing then")
            self._doubted = True  # said once
        if self._file is not None:
            self._file.write(demand, telemetry, asked)
        self._intervals += 1
        self._t_s += telemetry.interval_s
        self._frames += telemetry.frames
        self._missed += telemetry.missed
        total_j = telemetry.total_energy_j
        self._energy_j = None if total_j is None or self._energy_j is None else self._energy_j + total_j
        if self._machine is not None:
            self._overhead_s.append(self._pilot.decided_s + self._machine.overhead_s)
        self._say(line(self._t_s, demand, telemetry, asked, self._spec))

    def summary(self) -> str:
        """The flight in a line, and in another one how long it took to sense, decide and set."""
        frames = max(self._frames, 1)
        energy = "energy unknown" if self._energy_j is None else f"{1e3 * self._energy_j / frames:.1f} mJ per frame"
        text = f"{self._frames} frames: {energy}, {100 * self._missed / frames:.2f} % missed"
        if len(self._overhead_s) < 2:
            return text
        median_s = statistics.median(self._overhead_s)
        p95_s = statistics.quantiles(self._overhead_s, n=20, method="inclusive")[-1]
        interval_s = self._spec.interval_s
        return (
            f"{text}\nsense, decide and set: median {1e3 * median_s:.2f} ms ({100 * median_s / interval_s:.2f} % of an "
            f"interval), p95 {1e3 * p95_s:.2f} ms ({100 * p95_s / interval_s:.2f} %)"
        )


def line(t_s: float, demand: Demand, t: Telemetry, knobs: Knobs | None, spec: BoardSpec) -> str:
    """An interval that ended at `t_s`, in a line; `knobs` were asked for, None where that is missing."""
    asked, granted = "-" if knobs is None else _knobs(knobs, spec), _knobs(t.granted, spec)
    mean, p95 = _ms(t.latency_mean_s), _ms(t.latency_p95_s)
    floor = "no floor" if demand.accuracy_min <= 0 else f">={100 * demand.accuracy_min:.1f} %"
    total_j = t.total_energy_j
    heat = f"{max(t.temp_c.values()):3.0f} C" if t.temp_c else "  - C"
    parts = (
        f"{t_s:6.1f} s",
        f"{demand.rate_hz:5.1f}/s in {1e3 * demand.deadline_s:4.0f} ms, {floor}, {demand.goal}",
        asked if asked == granted else f"{asked} -> {granted}",
        f"{mean} ms, p95 {p95}",
        f"missed {t.missed}/{t.frames}",
        "  -   W" if total_j is None else f"{total_j / t.interval_s:5.2f} W",
        heat + (" throttled" if t.throttled else ""),
    )
    return " | ".join(parts)


def found(record: Mapping[str, Any]) -> str:
    """A board's record in a line: kernel, what sets each clock, meter."""
    clocks = [f"{n}: {c['path']}, governor {c['governor']}, set by {c['set by']}" for n, c in record["clocks"].items()]
    meter = record["meter"]
    told = f"no meter{meter.removeprefix('none')}" if meter.startswith("none") else f"meter: {meter}"
    return "; ".join((f"found kernel {record['kernel']}", *clocks, told))


def _knobs(knobs: Knobs, spec: BoardSpec) -> str:
    ghz = " ".join(f"{c.name} {knobs.freqs_hz[c.name] / 1e9:.2f}" for c in spec.clocks)
    return f"rung {knobs.rung} {knobs.unit}x{knobs.cores}, {ghz} GHz"


def _ms(seconds: float | None) -> str:
    return "   -" if seconds is None else f"{1e3 * seconds:4.0f}"
