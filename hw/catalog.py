"""Opens a board by name: simulated, emulated or real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from hw.boardcheck import HOST as HOST
from hw.boardfile import board_names, load_board
from hw.boardmodel import BoardModel
from hw.errors import InputError
from hw.profile import need_power, open_profile
from hw.simulated.board import SimBoard
from hw.types import Profile

if TYPE_CHECKING:
    from hw.real.board import LinuxBoard

BACKENDS = ("sim", "emulated", "real")


def find_model(name: str | Path, profile: Profile | str | Path | None = None) -> BoardModel:
    """The board of that name or of a .toml file; `host` is described beside its profile, a .csv file.

    Raises InputError where there is none.
    """
    if name != HOST:
        return load_board(name)
    from hw.real.host import measured_model  # here: what only simulates needs no processes

    return measured_model(None if isinstance(profile, Profile) else profile)


@overload
def open_board(
    name: str | Path,
    *,
    profile: Profile | str | Path | None = None,
    backend: Literal["sim"] = "sim",
    vary: bool = False,
) -> SimBoard: ...


@overload
def open_board(
    name: str | Path,
    *,
    profile: Profile | str | Path | None = None,
    backend: str,
    vary: bool = False,
    shadow: bool = False,
    root: Path | None = None,
) -> SimBoard | LinuxBoard: ...


def open_board(
    name: str | Path,
    *,
    profile: Profile | str | Path | None = None,
    backend: str = "sim",
    vary: bool = False,
    shadow: bool = False,
    root: Path | None = None,
) -> SimBoard | LinuxBoard:
    """The board of that name (or of a .toml file) with a profile (by default the board's own).

    `emulated`: the driver of real boards on files that the simulator moves; `close` ends them.
    `real`: this machine, which must be that board; a measured profile says what serves the frames.
    `vary`: every reset draws another board of the model (`[variation]` of its file) instead of the nominal one.
    `shadow`: the clocks of an emulated or real board stay the kernel's. `root`: an emulator's files to fly on.
    Raises InputError for an unknown board, profile or backend, and for what a backend cannot do; a board that is
    not simulated raises what its driver does.
    """
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")
    if root is not None and backend != "emulated":
        raise InputError("files of an emulator are for backend 'emulated'")
    model = find_model(name, profile)
    if vary and backend != "sim":
        raise InputError("only a simulated board varies")
    if backend == "real":
        return _open_real(name, model, profile, shadow)
    chosen = profile if isinstance(profile, Profile) else open_profile(model, profile)
    need_power(chosen)
    if backend == "sim":
        return SimBoard(model, chosen, vary=vary)
    from hw.real.emulated import EmulatedBoard  # here: what only simulates needs no sockets
    from hw.real.emulation import Emulation

    return EmulatedBoard(model, chosen, None if root is None else Emulation.attach(root, model), shadow=shadow)


def _open_real(name: str | Path, model: BoardModel, profile: Profile | str | Path | None, shadow: bool) -> LinuxBoard:
    from hw.real.host import open_host  # here: what only simulates needs no processes
    from hw.real.machine import open_machine
    from hw.real.workplan import load_plan

    if not isinstance(profile, (str, Path)) or Path(profile).suffix != ".csv":
        want = "the .csv that profile_board.py wrote on it; what serves the frames is told beside it"
        raise InputError.at(name, "a real board flies by a measured profile", want=want)
    if name == HOST:
        return open_host(profile, shadow=shadow)
    chosen = open_profile(model, profile)
    worker = load_plan(Path(profile).parent).start(gpu=model.spec.gpu is not None)
    return open_machine(model, chosen, worker, shadow=shadow)


__all__ = ["BACKENDS", "HOST", "board_names", "find_model", "open_board"]
