"""What holds for every test."""

from __future__ import annotations

import signal

import hypothesis
import pytest

# No time limit for an example, which a busy machine would break, and the same examples each time
hypothesis.settings.register_profile("powerband", deadline=None, derandomize=True)
hypothesis.settings.load_profile("powerband")

# A job that a shell starts in the background ignores Ctrl-C, and so would every command that a test starts.
# A handler of our own is reset to the default in them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files whose tests fly the machine they run on: one controller at a time
THIS_MACHINE = ("test_host.py", "test_deploy_here.py", "test_profile_board.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side (`make test`), those of a file stay together: they share what it made."""
    for item in items:
        name = item.path.name
        item.add_marker(pytest.mark.xdist_group("this machine" if name in THIS_MACHINE else str(item.path)))
