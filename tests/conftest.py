"""What holds for every test."""

from __future__ import annotations

import signal

# A job that a shell starts in the background ignores Ctrl-C, and so would every command that a test starts.
# A handler of our own is reset to the default in them.
signal.signal(signal.SIGINT, signal.default_int_handler)
