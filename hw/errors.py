"""What can go wrong with a board or a file, sorted by whether trying again can help.

PowerbandError
├── InputError     a file, name or value from outside is wrong: correct it (commands exit with status 2)
└── BoardError     the board itself
    ├── Missing    this board has no such thing: do without it
    ├── Refused    the board said no: ask for something else
    └── Flaky      it may work the next time: try again
"""

from __future__ import annotations

from pathlib import Path


class PowerbandError(Exception):
    """Base of every error that a person is meant to read; the text is one line."""


class InputError(PowerbandError):
    """A file, a name or a value from outside is wrong."""

    @classmethod
    def at(
        cls,
        path: str | Path,
        problem: str,
        *,
        line: int | None = None,
        column: str | None = None,
        value: object = None,
        want: str = "",
    ) -> InputError:
        """One line that says where (file, line, column, value), what is wrong and what would be right."""
        where = str(path) if line is None else f"{path}:{line}"
        if column is not None:
            where += f", column {column!r}"
        if value is not None:
            where += f", value {value!r}"
        return cls(f"{where}: {problem}" + (f"; {want}" if want else ""))


class BoardError(PowerbandError):
    """A board could not do what it was asked."""


class Missing(BoardError):
    """The board has no such thing (a power sensor, a clock, a fan)."""


class Refused(BoardError):
    """The board said no and would say no again."""


class Flaky(BoardError):
    """The board did not answer this time; it may the next time."""
