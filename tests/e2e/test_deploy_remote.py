"""Flights on another machine, which is a folder here."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments import _remote
from experiments._cli import FAULT_STATUS
from experiments._remote import FOLDER, RESTORE, TRIES, Remote
from hw.errors import Flaky, InputError
from hw.real.state import BOOT_ID
from tests.e2e.deploying import policy_of, rows, run, words
from tests.e2e.refusing import refused

SSH = """#!/bin/sh
cd "$FAKE_HOME" && PATH="$FAKE_PATH" exec sh -c "$8"
"""
RSYNC = """#!{python}
import os, shutil, sys
from pathlib import Path
def there(name):
    return Path(os.environ["FAKE_HOME"], name.partition(":")[2]) if ":" in name else Path(name)
source, target = map(there, sys.argv[-2:])
target.mkdir(exist_ok=True)
for old in target.iterdir() if "--delete" in sys.argv else ():
    if old.name != "out":
        shutil.rmtree(old) if old.is_dir() else old.unlink()
shutil.copytree(source, target, dirs_exist_ok=True)
"""
BARE = """#!/bin/sh
PYTHONPATH="$PYTHONPATH:{numpy}" exec {python} -S "$@"
"""


class There(NamedTuple):
    """A machine that is a folder."""

    home: Path
    programs: Path

    def add(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> There:
    """A machine that fake ssh and rsync reach, with Python and NumPy and nothing else."""
    home, here, programs, packages = (tmp_path / name for name in ("home", "here", "programs", "packages"))
    for folder in (home, here, programs, packages):
        folder.mkdir()
    machine, near = There(home, programs), There(home, here)
    near.add("ssh", SSH)
    near.add("rsync", RSYNC.format(python=sys.executable))
    for found in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / found.name).symlink_to(found)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    machine.add("python3", BARE.format(python=base, numpy=packages))
    machine.add("rsync", "#!/bin/sh\n")
    for name, value in (
        ("FAKE_HOME", str(home)),
        ("FAKE_PATH", f"{programs}:/usr/bin:/bin"),
        ("PATH", f"{here}:{os.environ['PATH']}"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return machine


def far(*more: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("--policy", "schedutil@auto", "--board", "xu3", "--remote", "me@board", *more, cwd=cwd)


def test_a_flight_elsewhere(there: There, tmp_path: Path) -> None:
    bare = there.programs / "python3"
    assert subprocess.run([bare, "-c", "import numpy"], check=False).returncode == 0
    assert subprocess.run([bare, "-c", "import torch"], capture_output=True, check=False).returncode == 1
    policy = policy_of("xu3", 0, tmp_path / "policy.npz")
    (tmp_path / "mine.csv").write_text(
        "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
        "0,5,0.2,0.6,0.3,min_energy,0,1.5,0.5,25\n4,5,0.2,0.6,0.3,min_energy,0,1.5,0.5,25\n"
    )
    (tmp_path / "mine.py").write_text("from agents.baselines.heuristics import Ladder\n\nclass Mine(Ladder): pass\n")
    files = ("--policy", policy, "--scenario", "mine.csv", "--telemetry", "t.csv", "--fallback", "mine.py:Mine")
    done = far(*files, "--backend", "emulated", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(" | missed " in line for line in done.stdout.splitlines()) == 8
    assert "scenario mine" in done.stdout
    assert [float(row["t_s"]) for row in rows(tmp_path / "t.csv")] == [0.5 * k for k in range(1, 9)]
    assert [p.name for p in there.home.iterdir()] == [".cache"]
    again = far("--policy", policy, "--intervals", 1, "--telemetry", "u.csv", cwd=tmp_path)
    assert (again.returncode, len(rows(tmp_path / "u.csv"))) == (0, 1), "in the same folder"


@pytest.mark.parametrize(
    ("lacks", "text"),
    [
        ("python", "me@board has no Python 3.11 or newer; install it there"),
        ("numpy", "me@board has Python without NumPy; install it there"),
        ("rsync", "me@board has no rsync; install it there"),
        ("connection", "me@board: cannot be reached: ssh: no route"),
        ("ssh", "ssh is not installed here"),
    ],
)
def test_what_is_missing_there_is_one_line(
    there: There, lacks: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks == "python":
        for minor in ("", ".11", ".12", ".13", ".14"):
            there.add(f"python3{minor}", "#!/bin/sh\nexit 127\n")
    elif lacks == "numpy":
        for minor in ("", ".11", ".12", ".13", ".14"):
            there.add(f"python3{minor}", '#!/bin/sh\ncase "$2" in *numpy*) exit 1;; esac\n')
    elif lacks == "rsync":
        (there.programs / "rsync").unlink()
        monkeypatch.setenv("FAKE_PATH", str(there.programs))
        for name in ("sh", "cat"):
            (there.programs / name).symlink_to(f"/bin/{name}")
    elif lacks == "connection":
        There(there.home, tmp_path / "here").add("ssh", "#!/bin/sh\necho ssh: no route >&2\nexit 255\n")
    else:
        monkeypatch.setenv("PATH", str(there.home))
    refused(far(), text)
    assert not list(there.home.iterdir())


def test_what_cannot_fly_is_refused_before_anything_is_done_there(there: There, tmp_path: Path) -> None:
    There(there.home, tmp_path / "here").add("ssh", '#!/bin/sh\ntouch "$FAKE_HOME/called"\n')
    policy = policy_of("jetson_nano", 0, tmp_path / "policy.npz")
    refused(far("--policy", policy), f"--policy {policy}: was trained for board 'jetson_nano'")
    refused(far("--fallback", policy), f"--fallback {policy}: was trained for board 'jetson_nano'")
    refused(far("--scenario", tmp_path / "no.csv"), str(tmp_path / "no.csv"))
    refused(far("--profile", tmp_path / "no.csv"), str(tmp_path / "no.csv"))
    refused(far("--telemetry", tmp_path / "no" / "t.csv"), str(tmp_path / "no" / "t.csv"))
    refused(far("--telemetry", "/dev/full"), "a pipe or a device")
    refused(far("--telemetry", "/proc/telemetry.csv"), "/proc/telemetry.csv: cannot be written")
    assert not list(there.home.iterdir())


def test_a_restore_is_done_there(there: There) -> None:
    said = "--restore puts back the machine that it runs on; there: ssh me@board 'cd .cache/powerband-flight && PYTHON"
    refused(run("--restore", "--remote", "me@board"), said)
    assert not list(there.home.iterdir())


def test_a_folder_of_the_users_own_is_left_alone(there: There) -> None:
    mine = there.home / "powerband" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine\n")
    assert far("--intervals", 1, "--telemetry", there.home / "t.csv").returncode == 0
    assert mine.read_text() == "mine\n" and [p.name for p in mine.parent.iterdir()] == ["thesis.txt"]


def test_a_flight_under_way_there_is_left_alone(there: There) -> None:
    out = there.home / FOLDER / "out"
    out.mkdir(parents=True)
    (out / "pid").write_text(f"{os.getpid()}\n")
    shutil.copy(f"/{BOOT_ID}", out / "boot")
    refused(far(), f"a flight is under way there (process {os.getpid()})")


@pytest.mark.parametrize("booted", ["another boot\n", None])
def test_a_process_of_another_boot_is_no_flight(there: There, tmp_path: Path, booted: str | None) -> None:
    out = there.home / FOLDER / "out"
    out.mkdir(parents=True)
    (out / "pid").write_text(f"{os.getpid()}\n")
    if booted is not None:
        (out / "boot").write_text(booted)
    looked = subprocess.run(
        ["sh", "-c", Remote("me@board").state(str(os.getpid()))], cwd=there.home, capture_output=True, text=True
    )
    assert looked.stdout.startswith("gone")
    done = far("--intervals", 1, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_connection_that_stalls_is_told(there: There, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote("me@board")
    for command in (remote.ssh("true"), remote.push(tmp_path), remote.pull(tmp_path)):
        assert "ServerAliveInterval=5" in " ".join(command)
    assert f"--timeout={_remote.STALL_S}" in remote.push(tmp_path)
    There(there.home, tmp_path / "here").add("ssh", "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(_remote, "LIMIT_S", 0.2)
    with pytest.raises(Flaky, match=r"^me@board: ssh did not end within 0\.2 s$"):
        follow(tmp_path / "t.csv")


# -- following a flight: the one there is a script, for what it says and how it ends is all that comes back -----------

SLEEPS = "echo flies; exec sleep 60"


@pytest.fixture
def flown(there: There, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], There]]:
    """A machine whose flights are this script; what still runs of the last one is ended."""

    def install(script: str) -> There:
        there.add("python3", f'#!/bin/sh\ncase "$*" in *deploy_policy*) {script};; esac\n')
        return there

    monkeypatch.setattr(_remote, "POLL_S", 0.01)
    monkeypatch.setattr(_remote, "LEFT", there.home / "state.json")
    yield install
    with contextlib.suppress(OSError, ValueError):
        os.killpg(group_of(there), signal.SIGKILL)


def group_of(there: There) -> int:
    """The process group of the flight there."""
    return int((there.home / FOLDER / "out" / "pid").read_text())


def follow(telemetry: Path) -> int:
    """Fly there as the command does, in this process; its exit status."""
    none = {"profile": None, "scenario": None, "fallback": None}
    return Remote("me@board").fly(policy="ladder", board="xu3", telemetry=telemetry, options=[], **none)


@pytest.mark.parametrize("status", [0, 3, 130])
def test_the_status_of_a_flight_there_comes_through(
    flown: Callable[[str], There], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flown(f"echo flies; echo t_s >out/telemetry.csv; exit {status}")
    assert follow(tmp_path / "t.csv") == status
    assert capsys.readouterr().out.splitlines()[1:] == ["flies", f"brought here as {tmp_path / 't.csv'}"]
    assert (tmp_path / "t.csv").read_text() == "t_s\n"


def test_telemetry_of_an_earlier_flight_is_not_this_one_s(
    flown: Callable[[str], There], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("of an earlier flight\n")
    flown("echo refused; exit 2")
    assert follow(tmp_path / "t.csv") == 2
    assert capsys.readouterr().out.splitlines()[1:] == ["refused"]
    assert (tmp_path / "t.csv").read_text() == "of an earlier flight\n"


def test_telemetry_that_cannot_be_written_any_more_is_one_line(
    flown: Callable[[str], There], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = flown(f"echo t_s >out/telemetry.csv; {SLEEPS}")
    copied = shutil.copyfile

    def full(source: Path, target: Path, **more: bool) -> Path:
        if target == tmp_path / "t.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return copied(source, target, **more)

    monkeypatch.setattr("experiments._remote.shutil.copyfile", full)
    with pytest.raises(InputError, match=r"t\.csv: cannot be written: No space left on device; the flight on me@"):
        follow(tmp_path / "t.csv")
    os.killpg(group_of(there), 0)  # it is there


@pytest.mark.parametrize("left", [False, True])
def test_a_flight_that_is_killed_there_is_told(
    flown: Callable[[str], There],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left: bool,
) -> None:
    there = flown(SLEEPS)
    if left:
        (there.home / "state.json").touch()

    def sleep(seconds: float) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone since the last look, or not there yet
            os.killpg(group_of(there), signal.SIGKILL)

    monkeypatch.setattr("experiments._remote.time.sleep", sleep)
    assert follow(tmp_path / "t.csv") == FAULT_STATUS == 3
    said = capsys.readouterr().err
    if left:
        assert said == (
            "the flight on me@board was killed, and the board not put back; run deploy_policy.py --restore there: "
            f"ssh me@board '{RESTORE}'\n"
        )
    else:
        assert said == "the flight on me@board was killed; nothing is left to put back there\n"


@pytest.mark.parametrize("left", [False, True])
def test_a_flight_whose_controller_alone_is_killed_there_has_a_status(
    flown: Callable[[str], There],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left: bool,
) -> None:
    """As where memory runs out: the shell that started it is left, and files what became of it."""
    there = flown("kill -KILL $$")
    if left:
        (there.home / "state.json").touch()
    monkeypatch.setattr("experiments._remote.time.sleep", lambda seconds: None)
    assert follow(tmp_path / "t.csv") == (FAULT_STATUS if left else 128 + signal.SIGKILL)
    assert ("the board not put back; run deploy_policy.py --restore there" in capsys.readouterr().err) == left


def test_a_flight_that_ends_while_it_is_looked_at_is_done(tmp_path: Path) -> None:
    """Between the two looks of the script: at whether it runs, and at its status."""
    ends = "kill() { echo 0 >out/status; return 1; }\n"
    script = Remote("me@board").state("1").replace(FOLDER, str(tmp_path))
    (tmp_path / "out").mkdir()
    shutil.copy(f"/{BOOT_ID}", tmp_path / "out" / "boot")
    done = subprocess.run(["sh", "-c", ends + script], capture_output=True, text=True, check=True)
    assert done.stdout == "done 0\n"


@pytest.mark.parametrize("fails", [TRIES - 1, TRIES])
def test_a_connection_may_fail_for_a_while(flown: Callable[[str], There], fails: int, tmp_path: Path) -> None:
    there = flown("echo flies; exit 0")
    # of what is asked while it flies
    lost = f"""#!/bin/sh
case "$8" in *now=flying*)
  echo >>"$FAKE_HOME/asked"
  test $(wc -l <"$FAKE_HOME/asked") -le {fails} && {{ echo "ssh: no route" >&2; exit 255; }};;
esac
"""
    There(there.home, tmp_path / "here").add("ssh", lost + SSH.partition("\n")[2])
    if fails < TRIES:
        assert follow(tmp_path / "t.csv") == 0
        return
    with pytest.raises(Flaky, match=rf"ssh: no route; the flight there goes on, in {FOLDER}/out$"):
        follow(tmp_path / "t.csv")
    assert (there.home / "asked").read_text().count("\n") == TRIES


def test_ctrl_c_ends_the_following_and_not_the_flight(flown: Callable[[str], There], tmp_path: Path) -> None:
    there = flown(SLEEPS)
    command = words("--policy", "ladder", "--board", "xu3", "--remote", "me@board")
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        for line in following.stdout:
            if line == "flies\n":
                break
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=60)
    group = group_of(there)
    assert following.returncode == 130
    assert said == (
        f"the flight on me@board goes on; to end it: ssh me@board kill -- -{group}; telemetry so far in telemetry.csv\n"
    )
    os.killpg(group, 0)  # it is there
