"""What tests of serving share: the worker as a command, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

Record = dict[str, Any]


def command(*words: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "dyndnn.serve", *(str(w) for w in words)]


def serve(*words: object, stdin: bytes = b"") -> tuple[list[Record], str, int]:
    """The records after the first, what was said on stderr, and the exit status."""
    done = subprocess.run(command(*words), cwd=ROOT, input=stdin, capture_output=True, timeout=60)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    if records:
        ready = records.pop(0)
        assert ready.keys() == {"ready", "pid", "rungs", "rung", "shape", "threads"}
    return records, done.stderr.decode(), done.returncode
