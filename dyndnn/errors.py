"""What can go wrong with a network, its data or its files: one line that a person can act on."""

from __future__ import annotations

from pathlib import Path


class NetworkError(ValueError):
    """A file, a name or a value from outside is wrong; the text is one line: what, where, value, what is right."""

    @classmethod
    def at(cls, where: str | Path, problem: str, *, value: object = None, want: str = "") -> NetworkError:
        """One line that says where (a file, a field), with what value, what is wrong and what would be right."""
        told = str(where) if value is None else f"{where}, value {value!r}"
        return cls(f"{told}: {problem}" + (f"; {want}" if want else ""))
