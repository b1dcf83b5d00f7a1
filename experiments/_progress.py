"""A progress bar with rate and time left; where nobody watches a terminal, a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY_S = 15.0


class _Rate(ProgressColumn):
    """Done per second since the start."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The column's text."""
        rate = (task.completed - task.fields["first"]) / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:,.0f} {self._unit}/s")


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
        )
        self._first: int | None = None  # what was done already when the part began: a job may be taken up again
        self._task = self._progress.add_task(title, total=None, note="", first=0)
        self._start_s = self._told_s = time.monotonic()

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
            self._first = None
            self._progress.reset(self._task, description=title, total=None)
            self._start_s = self._told_s = time.monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` units of `total` are done; `note` is shown behind the bar."""
        done = min(done, total)
        if self._first is None:
            self._first = done
        self._progress.update(self._task, completed=done, total=total, note=note, first=self._first)
        now_s = time.monotonic()
        if self._plain and now_s - self._told_s >= PLAIN_EVERY_S:
            self._told_s = now_s
            rate = (done - self._first) / (now_s - self._start_s)
            left = f"{(total - done) / rate:.0f} s left" if rate > 0 else ""
            told = (f"{100 * done // total} %", f"{rate:,.0f} {self._unit}/s", left, note)
            print(f"{self._title}: {', '.join(t for t in told if t)}", file=sys.stderr, flush=True)
