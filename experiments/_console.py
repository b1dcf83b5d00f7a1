"""Where tables are printed: on a terminal as wide as it is, else as plain text of one width."""

from __future__ import annotations

import sys

from rich.console import Console

PLAIN_WIDTH = 100


def console() -> Console:
    """Of stdout; prints what it is given as it stands, for names may hold brackets and colons."""
    if sys.stdout.isatty():
        return Console(markup=False, emoji=False, highlight=False)
    return Console(width=PLAIN_WIDTH, no_color=True, markup=False, emoji=False, highlight=False)
