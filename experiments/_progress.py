"""A progress bar with rate and time left; where nobody watches a terminal, a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY_S = 15.0
RECENT_S = 60.0  # whose pace is told: a machine may have slept before, or had others to serve


def _per_s(task: Task) -> float:
    """Done per second lately; since the start where a unit takes longer than that."""
    since_start = (task.completed - (task.fields["first"] or 0)) / task.elapsed if task.elapsed else 0.0
    return task.speed or since_start


def _told(rate: float, unit: str) -> str:
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


class _Rate(ProgressColumn):
    """Done per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text(_told(_per_s(task), self._unit))


class Bar:
    """Shows how far a job is, on stderr; a context manager."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            _Rate(unit),
            TimeRemainingColumn(compact=True),
            TextColumn("left {task.fields[note]}"),
            console=console,
            disable=self._plain,
            speed_estimate_period=RECENT_S,
        )
        # first: what was done already when the part began, since a job may be taken up again
        self._task = self._progress.add_task(title, total=None, note="", first=None)
        self._told_s = time.monotonic()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def turn_to(self, title: str) -> None:
        """The next part of the job, with a rate of its own; nothing happens while the part is the same."""
        if title != self._title:
            self._title = title
            self._progress.reset(self._task, description=title, total=None)
            self._progress.update(self._task, first=None)

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` units of `total` are done; `note` is shown behind the bar."""
        done = min(done, total)
        (task,) = self._progress.tasks
        first = done if task.fields["first"] is None else task.fields["first"]
        self._progress.update(self._task, completed=done, total=total, note=note, first=first)
        now_s = time.monotonic()
        if self._plain and now_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = now_s
            rate = _per_s(task)
            left = f"{(total - done) / rate:.0f} s left" if rate > 0 else ""
            told = (f"{100 * done // total} %", _told(rate, self._unit), left, note)
            print(f"{self._title}: {', '.join(t for t in told if t)}", file=sys.stderr, flush=True)
