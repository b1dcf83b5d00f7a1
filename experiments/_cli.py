"""What every command does alike at its edges: arguments in, errors as one line, an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from hw.errors import InputError, PowerbandError

T = TypeVar("T")

INPUT_STATUS = 2
FAULT_STATUS = 3  # a flight ended before its time
INTERRUPT_STATUS = 130  # 128 + SIGINT, as shells count

_NO_NUMBER = re.compile(r"Error parsing (--[\w-]+): .*(invalid literal for int|could not convert .* float).*'([^']*)'")


def main_guard(main: Callable[[], int | None]) -> None:
    """Run a command and leave the process: never a traceback for what a person can correct.

    PowerbandError: one line on stderr, status 2. Ctrl-C: one line, status 130 (a command that has something
    to save catches it itself). A reader that went away (`| head`): quiet.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except PowerbandError as error:
        complain(str(error))
        status = INPUT_STATUS
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPT_STATUS
    except BrokenPipeError:
        silence()
        status = 1
    sys.exit(status)


def silence() -> None:
    """Send standard output nowhere: its reader went away, and the interpreter flushes once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(problem: str) -> None:
    """One line on stderr, whatever was in the text."""
    print("error: " + " ".join(problem.split()), file=sys.stderr)


def parse(config: type[T], description: str, default: T | None = None) -> T:
    """The command line as a `config` dataclass, by tyro; its complaints become an InputError of one line.

    `default`: what holds where nothing is said (None: the defaults of the fields).
    """
    import tyro  # here: deploy_policy.py shares this file and must fly without tyro

    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            if default is None:
                return tyro.cli(config, description=description)
            return tyro.cli(config, description=description, default=default)
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise  # --help
    raise InputError(_one_line(complaints.getvalue()) + "; --help shows all options") from None


def _one_line(box: str) -> str:
    """The message in tyro's framed error: what stands above its inner rule, without the frame.

    In ASCII there is no frame, and a title stands above a rule of its own.
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        inner = line.strip().strip("│|").strip()
        if not inner or inner[0] in "╭╰+":
            continue
        if set(inner) <= set("─-"):
            parts.append([])
        else:
            parts[-1].append(inner)
    framed = box.lstrip()[:1] in "╭+"
    complaint = " ".join(parts[0 if framed or len(parts) < 2 else 1]).rstrip(".:")
    if found := _NO_NUMBER.fullmatch(complaint):
        flag, why, value = found.groups()
        return f"{flag}, value {value!r}: not a {'whole ' if 'int' in why else ''}number"
    return re.sub(r"^Error parsing (?!--)\w+: ", "", complaint) or "the arguments cannot be understood"
