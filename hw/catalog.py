"""Opens a board by name: simulated now; emulated and real follow."""

from __future__ import annotations

from pathlib import Path

from hw.boardfile import board_names, load_board
from hw.errors import InputError
from hw.profile import open_profile
from hw.simulated.board import SimBoard
from hw.types import Profile

BACKENDS = ("sim", "emulated", "real")


def open_board(
    name: str | Path, *, profile: Profile | str | Path | None = None, backend: str = "sim", vary: bool = False
) -> SimBoard:
    """The board of that name (or of a .toml file) with a profile (by default the board's own).

    `vary`: every reset draws another board of the model (`[variation]` of its file) instead of the nominal one.
    Raises InputError for an unknown board, profile or backend.
    """
    model = load_board(name)
    if backend in ("emulated", "real"):
        raise InputError(f"backend {backend!r} follows in a later release; use 'sim'")
    if backend != "sim":
        raise InputError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    chosen = profile if isinstance(profile, Profile) else open_profile(model, profile)
    return SimBoard(model, chosen, vary=vary)


__all__ = ["BACKENDS", "board_names", "open_board"]
