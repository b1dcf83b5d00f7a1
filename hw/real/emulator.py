"""A board that is not there: its files (`hw.real.tree`) moved by the simulator, in a process of its own.

    python -m hw.real.emulator --board xu3 --dir tree

makes one for whoever writes a driver. Its time is stepped: sensors move when a worker serves an interval, which is
asked for on the socket `emulator.sock` in that folder (`hw.real.emulation` does); clocks follow their files at once.
One line of JSON in, one out: `{"do": "serve", "rate_hz": 10, "deadline_s": 0.1}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hw.boardcheck import KERNELS
from hw.boardfile import load_board
from hw.errors import BoardError, InputError, PowerbandError
from hw.profile import load_profile, open_profile
from hw.real.mover import Emulator
from hw.real.state import state_file

SOCKET = "emulator.sock"
PROFILE = "profile.csv"
POLL_S = 0.005  # how soon a write shows to those who do not ask: a kernel takes as long for a change of clock
LINGER_S = 3.0  # after its owner's death: so long a supervisor may take to put the settings back


class Server:
    """Serves an emulator on its socket until its owner is gone."""

    def __init__(self, emulator: Emulator, root: Path, *, owned: bool) -> None:
        """`owned`: it ends with the process at the other end of standard input, and removes the tree."""
        self._emulator, self._root, self._owned = emulator, root, owned
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(root / SOCKET))
        except OSError as error:
            raise InputError.at(root, f"no socket here: {error}", want="a folder with a short path") from None
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        if owned:
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)

    def run(self) -> None:
        """Answer, and between the questions watch the files."""
        while True:
            events = self._selector.select(POLL_S)
            if not events:  # whoever asks has the files looked at where it matters
                self._emulator.tree.look()
            for key, _ in events:
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    self._selector.register(connection, selectors.EVENT_READ, connection.makefile("rwb"))
                elif key.data is None:
                    if not os.read(sys.stdin.fileno(), 1):
                        return self._linger()
                elif not self._talk(key.data):
                    self._selector.unregister(key.fileobj)
                    with contextlib.suppress(OSError):  # an answer that nobody took
                        key.data.close()

    def _talk(self, stream: Any) -> bool:
        """Answer one line; False where there is nobody any more."""
        try:
            line = stream.readline()
            if not line:
                return False
            stream.write(json.dumps(self._answer(line)).encode() + b"\n")
            stream.flush()
        except OSError:
            return False
        return True

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return self._emulator.answer(json.loads(line))
        except BoardError as error:
            return {"error": str(error), "kind": type(error).__name__}
        except (ValueError, TypeError, KeyError) as error:
            return {"error": f"not understood: {error}", "kind": "Refused"}

    def _linger(self) -> None:
        """The owner is gone; where it flew, somebody may be about to put its settings back."""
        end = time.monotonic() + LINGER_S
        while state_file(self._root).exists() and time.monotonic() < end:
            self._emulator.tree.look()
            time.sleep(POLL_S)


def serve_owner() -> None:
    """As `hw.real.emulation` starts it, with folder, board file and kernel; says `ready`, or what is wrong."""
    root, file, kernel = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    try:
        model = load_board(file)
        profile = load_profile(root / PROFILE, model.spec)
        server = Server(Emulator(root, model, profile, kernel=kernel), root, owned=True)
        print("ready", flush=True)
        server.run()
    except PowerbandError as error:
        print(error, flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _make_room(folder: Path) -> None:
    """A folder without a tree: that of an emulator that has ended is removed.

    Raises InputError where one runs there, or the folder holds something else in a tree's place.
    """
    file = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.suppress(OSError):
        connection.connect(str(file))
        raise InputError.at(folder, "an emulator runs there", want="end that one, or name another folder")
    tree = [folder / name for name in ("sys", "proc") if (folder / name).exists()]
    if tree and not file.exists():
        raise InputError.at(tree[0], "is no emulator's", want="an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in tree:
            shutil.rmtree(path)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError.at(folder, f"cannot be written: {error.strerror}", want="name another folder") from None


def main() -> None:
    """Make a tree and serve it until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Emulate a board's files, for whoever writes a driver.")
    parser.add_argument("--board", required=True, help="a board's name, or a .toml file with a table [real]")
    parser.add_argument("--profile", help="a profile's name or .csv file (default: the board's own)")
    parser.add_argument("--kernel", choices=KERNELS, help="whose file names (default: as the board file says)")
    parser.add_argument("--dir", required=True, type=Path, help="folder for the tree; made where it is missing")
    args = parser.parse_args()
    try:
        model = load_board(args.board)
        _make_room(args.dir)
        emulator = Emulator(args.dir, model, open_profile(model, args.profile), kernel=args.kernel)
        server = Server(emulator, args.dir, owned=False)
        print(f"{model.spec.name} in {args.dir}; Ctrl-C ends it", flush=True)
        server.run()
    except PowerbandError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
