"""What every refused command owes its user."""

from __future__ import annotations

import importlib
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from experiments._cli import main_guard


def run_inside(cwd: Path, script: str, *words: object, encoding: str = "utf-8") -> CompletedProcess[str]:
    """A command in this process, which has imported what takes seconds: for many that are refused at once.

    `encoding`: of what it writes to.
    """
    main = importlib.import_module(f"experiments.{script.removesuffix('.py')}").main
    shown, said = (TextIOWrapper(BytesIO(), encoding, write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(said):
        patch.setattr("sys.argv", [script, *map(str, words)])
        patch.chdir(cwd)
        with pytest.raises(SystemExit) as leaving:
            main_guard(main)
    assert isinstance(leaving.value.code, int)
    return CompletedProcess(
        [script], leaving.value.code, *(s.buffer.getvalue().decode(encoding) for s in (shown, said))
    )


def refused(done: CompletedProcess[str], *words: str) -> None:
    """Status 2 and exactly one line on stderr, with these words in it; nothing on stdout."""
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in lines[0], lines[0]
