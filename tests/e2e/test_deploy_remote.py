"""Flights on another machine, which is a folder here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments._remote import FOLDER
from tests.e2e.deploying import policy_of, rows, run
from tests.e2e.refusing import refused

SSH = """#!/bin/sh
cd "$FAKE_HOME" && PATH="$FAKE_PATH" exec sh -c "$4"
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
    files = ("--policy", policy, "--scenario", "mine.csv", "--telemetry", "t.csv", "--fallback", "ladder")
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
    refused(far(), f"a flight is under way there (process {os.getpid()})")
