"""What holds for every test."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator

import hypothesis
import pytest

# No time limit for an example, which a busy machine would break, and the same examples each time
hypothesis.settings.register_profile("powerband", deadline=None, derandomize=True)
hypothesis.settings.load_profile("powerband")

# A job that a shell starts in the background ignores Ctrl-C, and so would every command that a test starts.
# A handler of our own is reset to the default in them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For files whose tests fly the machine they run on: one file at a time, also where tests run side by side.

    Processes side by side have folders of their own in one that they share, where the lock is.
    """
    with (tmp_path_factory.getbasetemp().parent / "this machine").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
