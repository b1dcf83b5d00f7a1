"""A machine is left as it was found, whatever ends the one who changed it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hw.errors import Flaky, InputError, Refused
from hw.real.lock import FOLDER, LOCK, Lock
from hw.real.state import BOOT_ID, Hold, load_state, rescue, restore, state_file
from hw.real.sysfs import Sysfs
from tests.machine import CHANGED, FILES, POLICY, put, shown, take


def is_free(root: Path) -> bool:
    """Whether this process gets the machine's lock."""
    lock = Lock(root, "xu3")
    try:
        lock.take()
    except Refused:
        return False
    lock.release()
    return True


# ---- the hold ----


def test_saved_before_the_first_change_and_gone_after_the_last(hold: Hold, root: Path) -> None:
    take(hold, root)
    saved = load_state(state_file(root))
    assert saved == hold.saved
    assert saved.values == FILES
    assert (saved.board, saved.pid, saved.boot_id, saved.root) == ("xu3", os.getpid(), "boot-1", str(root))
    put(root, CHANGED)
    hold.release()
    assert shown(root) == FILES
    assert not state_file(root).exists()
    put(root, CHANGED)
    hold.release()
    assert shown(root) == shown(root) | CHANGED, "twice is fine, and the second does nothing"


def test_signals_are_as_before(hold: Hold, root: Path) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    take(hold, root)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] != before
    hold.release()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_nothing_is_left_where_it_cannot_be_saved(hold: Hold, root: Path) -> None:
    (root / "run").write_text("in the way")
    with pytest.raises(Refused, match=r"cannot keep the board's state there: .*; run as root, or: sudo install -d"):
        take(hold, root)
    (root / "run").unlink()
    take(hold, root)  # it can be tried again


def test_a_board_that_cannot_be_read_is_not_held(hold: Hold, root: Path) -> None:
    (root / POLICY / "scaling_governor").unlink()
    with pytest.raises(FileNotFoundError):
        take(hold, root)
    assert not state_file(root).exists()
    put(root, FILES)
    take(hold, root)


def test_the_next_start_puts_back_what_a_dead_one_left(root: Path) -> None:
    fly(root, "os.kill(os.getpid(), signal.SIGKILL)")
    assert shown(root) == shown(root) | CHANGED
    hold = Hold(Sysfs(root), "xu3")
    take(hold, root)
    assert load_state(state_file(root)).values == FILES, "what was found at first, not what the dead one left"
    hold.release()
    assert shown(root) == FILES


def test_a_setting_that_does_not_go_back_is_told_and_kept(hold: Hold, root: Path) -> None:
    take(hold, root)
    (root / "sys/enable").unlink()
    with pytest.raises(Flaky, match=r"xu3: not put back: .*enable: there is no such file; kept in .*state\.json"):
        hold.release()
    assert state_file(root).exists()
    put(root, FILES)
    hold.release()
    assert not state_file(root).exists()


@pytest.mark.parametrize("text", ["{", None])
def test_it_is_put_back_by_memory(hold: Hold, root: Path, text: str | None) -> None:
    """Whatever became of the file in the meantime."""
    take(hold, root)
    put(root, CHANGED)
    state_file(root).unlink()
    if text is not None:
        state_file(root).write_text(text)
    hold.release()
    assert shown(root) == FILES and not state_file(root).exists() and is_free(root)


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_what_does_not_go_back_is_told_though_the_file_is_gone(hold: Hold, root: Path, gone: str) -> None:
    take(hold, root)
    saved = hold.saved
    put(root, CHANGED)
    state_file(root).unlink()
    if gone == "folder":
        shutil.rmtree(root / "run")
    (root / "sys/enable").unlink()
    kept = r"kept in .*state\.json$" if gone == "file" else r"state\.json: cannot be written"
    with pytest.raises(Flaky, match=rf"xu3: not put back: .*enable: there is no such file; .*{kept}"):
        hold.release()
    if gone == "file":
        assert load_state(state_file(root)) == saved
    put(root, {"sys/enable": "1"})
    hold.release()
    assert shown(root) == FILES and not state_file(root).exists()


@pytest.mark.parametrize("path", ["sys/class/../enable", "proc/sys/kernel/hostname", "run/other"])
def test_what_could_not_be_put_back_is_not_taken(hold: Hold, root: Path, path: str) -> None:
    with pytest.raises(Refused, match=f"xu3: {path} is no setting that can be put back"):
        hold.take(lambda: shown(root) | {path: "1"})
    assert not state_file(root).exists()
    take(hold, root)


# ---- another process ----

SCRIPT = """
import os, signal, sys, time
from hw.errors import PowerbandError
from hw.real.state import Hold
from hw.real.sysfs import Sysfs
sysfs, files, changed = Sysfs(sys.argv[1]), {files!r}, {changed!r}
hold = Hold(sysfs, "xu3")
try:
    hold.take(lambda: {{path: sysfs.read(path) for path in files}})
except PowerbandError as error:
    sys.exit(str(error))
for path, text in changed.items():
    sysfs.write(path, text)
print("changed", flush=True)
{end}
"""


def fly(root: Path, end: str) -> subprocess.CompletedProcess[str]:
    """Take and change the board in another process, then `end`."""
    return subprocess.run(script(root, end), capture_output=True, text=True, check=False, timeout=60)


def script(root: Path, end: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(files=list(FILES), changed=CHANGED, end=end), str(root)]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError", 1),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGHUP); time.sleep(60)", -signal.SIGHUP),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
    ],
)
def test_every_end_puts_it_back(root: Path, end: str, status: int) -> None:
    done = fly(root, end)
    assert done.stdout == "changed\n", done.stderr
    assert done.returncode == status
    assert shown(root) == FILES
    assert not state_file(root).exists()


def test_a_signal_that_nohup_ignores_is_ignored(root: Path) -> None:
    end = "signal.raise_signal(signal.SIGHUP)\nprint(hold.file.exists(), sysfs.read('sys/enable'))"
    done = subprocess.run(["nohup", *script(root, end)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "changed\nTrue 1\n"), done.stderr
    assert shown(root) == FILES and not state_file(root).exists()


def test_a_child_that_dies_leaves_the_board_alone(root: Path) -> None:
    code = (
        "pid = os.fork()\n"
        "if not pid:\n    signal.raise_signal(signal.SIGTERM)\n"
        "os.waitpid(pid, 0)\n"
        "print(sysfs.read('sys/enable'), flush=True)"
    )
    assert fly(root, code).stdout == "changed\n1\n"
    assert shown(root) == FILES


def test_a_handler_of_the_program_still_hears_the_signal(root: Path) -> None:
    code = SCRIPT.replace(
        "hold = Hold", "signal.signal(signal.SIGTERM, lambda *_: (print('heard'), sys.exit(5)))\nhold = Hold"
    ).format(files=list(FILES), changed=CHANGED, end="signal.raise_signal(signal.SIGTERM); time.sleep(60)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (5, "changed\nheard\n")
    assert shown(root) == FILES


def test_a_write_that_a_handled_signal_interrupted_is_put_back_too(root: Path) -> None:
    """Its handler returns, and what it interrupted goes on."""
    code = SCRIPT.replace(
        "hold = Hold", "signal.signal(signal.SIGTERM, lambda *_: print('heard'))\nhold = Hold"
    ).format(
        files=list(FILES),
        changed=CHANGED,
        end="signal.raise_signal(signal.SIGTERM)\nprint(sysfs.read('sys/enable'))\nsysfs.write('sys/enable', '1')",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "changed\nheard\n0\n", "")
    assert shown(root) == FILES and not state_file(root).exists()


def test_a_second_controller_is_refused_in_one_line(root: Path) -> None:
    with subprocess.Popen(script(root, "time.sleep(60)"), stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "changed\n"
        second = fly(root, "")
        assert second.returncode == 1
        assert second.stderr == (
            f"xu3: another controller holds this board (process {first.pid}, board xu3); end it first\n"
        )
        assert shown(root) == shown(root) | CHANGED
        first.terminate()
    assert shown(root) == FILES
    assert is_free(root)


def test_restored_within_a_second_of_a_kill(root: Path) -> None:
    with subprocess.Popen(script(root, "time.sleep(60)"), stdout=subprocess.PIPE, text=True) as flying:
        assert flying.stdout is not None
        flying.stdout.readline()
        began = time.monotonic()
        flying.kill()
        flying.wait()
        saved = restore(state_file(root))
        assert time.monotonic() - began < 1.0
    assert (saved.board, saved.pid) == ("xu3", flying.pid)
    assert shown(root) == FILES
    assert not state_file(root).exists()
    assert is_free(root), "the lock dies with its process"


def test_the_controller_ends_well_where_a_supervisor_was_first(hold: Hold, root: Path) -> None:
    take(hold, root)
    put(root, CHANGED)
    restore(state_file(root))
    assert shown(root) == FILES
    put(root, {"sys/enable": "1"})  # one last write of a controller that did not know
    hold.release()
    assert shown(root) == FILES


# ---- files that are not as they should be ----


def test_after_a_boot_nothing_is_written(root: Path) -> None:
    fly(root, "os.kill(os.getpid(), signal.SIGKILL)")
    put(root, {BOOT_ID: "boot-2"})
    restore(state_file(root))
    assert shown(root) == shown(root) | CHANGED
    assert not state_file(root).exists()
    hold = Hold(Sysfs(root), "xu3")
    take(hold, root)
    put(root, FILES | {BOOT_ID: "boot-3"})
    hold.release()
    assert shown(root) == FILES and not state_file(root).exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", '{"board": "xu3"}', "null", "{changed}"])
def test_a_file_that_is_no_state_is_one_line(hold: Hold, root: Path, text: str) -> None:
    wrong = {"sys/enable": 1}
    good = {"board": "xu3", "root": str(root), "pid": 1, "boot_id": "boot-1", "when": "now", "values": wrong}
    (root / FOLDER).mkdir(parents=True)
    state_file(root).write_text(json.dumps(good) if text == "{changed}" else text)
    for attempt in (lambda: restore(state_file(root)), lambda: take(hold, root)):
        with pytest.raises(InputError, match=r"state\.json: is no saved state of a board; look at"):
            attempt()
    assert shown(root) == FILES


def test_no_file_to_restore(root: Path) -> None:
    with pytest.raises(InputError, match=r"state\.json: cannot be read"):
        restore(state_file(root))


def test_another_user_s_lock_is_named(hold: Hold, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, {f"{FOLDER}/{LOCK}": "process 1, board xu3"})

    def denied(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        with pytest.raises(
            Refused, match=r"powerband/lock: this lock is another user's; .*: sudo chown .*powerband/lock$"
        ):
            take(hold, root)
        patched.setattr(os, "access", lambda *_: False)
        with pytest.raises(Refused, match="cannot keep the board's state there"):
            take(hold, root)  # the folder is not ours either
    take(hold, root)


def test_what_another_user_left_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a root flight, where a user may not even look."""
    put(root, {f"{FOLDER}/{LOCK}": "process 1, board xu3"})

    def denied(path: Path, *_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", denied)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Refused, match=r"state\.json: another user's controller kept .* there; run as root$"):
        rescue(root)


@pytest.mark.parametrize("path", ["../victim", "/etc/victim", "sys/../../victim", "etc/passwd", ""])
def test_a_state_that_names_other_files_is_refused(root: Path, path: str) -> None:
    wrong = {"board": "xu3", "root": str(root), "pid": 1, "boot_id": "boot-1", "when": "now"}
    (root / FOLDER).mkdir(parents=True)
    state_file(root).write_text(json.dumps({**wrong, "values": {"sys/enable": "1", path: "evil"}}))
    with pytest.raises(InputError, match="is no saved state of a board"):
        restore(state_file(root))
    assert shown(root) == FILES and not (root.parent / "victim").exists()


def test_a_state_of_another_root_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    put(other, FILES | {BOOT_ID: "boot-1"})
    told = {"board": "xu3", "root": str(other), "pid": 1, "boot_id": "boot-1", "when": "now"}
    (root / FOLDER).mkdir(parents=True)
    state_file(root).write_text(json.dumps({**told, "values": {"sys/enable": "1"}}))
    with pytest.raises(InputError, match="is no saved state of a board"):
        restore(state_file(root))
    assert shown(other) == FILES


def test_a_lock_file_that_nobody_has_locked_holds_nobody_up(root: Path) -> None:
    put(root, {f"{FOLDER}/{LOCK}": "process 1, board xu3"})
    assert is_free(root)
