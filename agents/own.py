"""A controller of one's own: a class in a Python file, named FILE.py:CLASS on a command line.

The file is run, so it is the user's own code and nothing less. Nothing that is read from a file can name one.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hw.errors import InputError, PowerbandError
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry

METHODS = ("reset", "act")


def own_file(name: str) -> str | None:
    """The Python file in a controller's name, as it is written there; None where there is none."""
    if name.endswith(".py"):
        return name
    file, colon, _ = name.rpartition(":")
    return file if colon and file.endswith(".py") else None


def own_policy(name: str) -> Any:
    """A fresh `agents.policy.Policy` of the class that FILE.py:CLASS names, made without arguments.

    Raises InputError where the file cannot be run, or has no such class with the methods of a `Policy`; so do these
    methods where they fail.
    """
    file = own_file(name)
    assert file is not None
    module, wanted = _loaded(Path(file)), name[len(file) + 1 :]
    found = {
        n: c
        for n, c in inspect.getmembers(module, inspect.isclass)
        if all(callable(getattr(c, method, None)) for method in METHODS)
    }
    if wanted not in found:
        own = [n for n, c in found.items() if c.__module__ == module.__name__]
        want = f"FILE.py:CLASS with one of {', '.join(own)}" if own else "one has methods reset and act, see README.md"
        raise InputError.at(file, "no such controller in it", value=wanted or None, want=want)
    with _told(Path(file), wanted):
        return _Own(Path(file), wanted, found[wanted]())


class _Own:
    """A controller whose failures are told in one line, with that of the file."""

    def __init__(self, path: Path, name: str, policy: Any) -> None:
        self._path, self._name, self._policy = path, name, policy

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        with _told(self._path, f"{self._name}.reset"):
            self._policy.reset(spec, profile)

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        with _told(self._path, f"{self._name}.act"):
            knobs = self._policy.act(telemetry, demand)
        if not isinstance(knobs, Knobs):
            gave = type(knobs).__name__
            raise InputError.at(self._path, f"{self._name}.act() gave no knobs", value=gave, want="hw.types.Knobs")
        return knobs


@contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    """InputError where code of the file fails; what this project says of itself goes through."""
    try:
        yield
    except PowerbandError:
        raise
    except Exception as error:
        raise _failed(path, error, f"{what}() failed") from error


def _loaded(path: Path) -> ModuleType:
    """The file as a module, run once in a process."""
    key = str(path.resolve())
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # a dataclass looks its own module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[key]
        raise _failed(path, error, "cannot be run") from error
    return module


def _failed(path: Path, error: BaseException, what: str) -> InputError:
    """One line with that of the file where it went wrong."""
    if isinstance(error, OSError) and error.filename is not None and Path(error.filename) == path.resolve():
        return InputError.at(path, f"cannot be read: {error.strerror}", want="name a Python file of your own")
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.resolve()]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return InputError.at(path, f"{what}: {type(error).__name__}: {error}", line=line)
