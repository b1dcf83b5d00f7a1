"""What every refused command owes its user."""

from __future__ import annotations

from subprocess import CompletedProcess


def refused(done: CompletedProcess[str], *words: str) -> None:
    """Status 2 and exactly one line on stderr, with these words in it; nothing on stdout."""
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]
