"""What deploy_policy.py says, refuses and puts back without an emulated board, and a flight on this machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from experiments._flight import found
from hw.boardfile import load_board
from hw.profile import load_profile, save_profile
from hw.real.hostfile import host_text
from hw.real.state import BOOT_ID, state_file
from hw.real.sysfs import Sysfs
from hw.real.workplan import WorkPlan, save_plan
from tests.e2e.deploying import run, save_policy
from tests.e2e.refusing import refused, run_inside
from tests.here import has_quota, need_state_folder
from tests.hostprofile import profile_of

pytestmark = pytest.mark.usefixtures("this_machine")
DEAD = 2**22 + 1  # no process of Linux has such a number


def a_state(root: Path) -> Path:
    """What a controller leaves that changed no setting: a host's, whose clock is a quota or none."""
    file, boot_id = state_file(root), root / BOOT_ID
    for folder in (file.parent, boot_id.parent):
        folder.mkdir(parents=True)
    boot_id.write_text("this one\n")
    told = {"board": "host", "root": str(root), "pid": DEAD, "boot_id": "this one", "when": "noon", "values": {}}
    file.write_text(json.dumps(told))
    return file


def test_restore_removes_the_cgroup_of_a_dead_controller(tmp_path: Path) -> None:
    dead, mine = (tmp_path / f"sys/fs/cgroup/cpu/powerband-{pid}" for pid in (DEAD, os.getpid()))
    dead.mkdir(parents=True)
    mine.mkdir()
    done = run("--restore", "--root", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"removed what a dead controller left: cgroup {dead}\n"
    assert mine.exists() and not dead.exists()
    dead.mkdir()
    file = a_state(tmp_path)
    lines = run("--restore", "--root", tmp_path).stdout.splitlines()
    assert lines[0] == "host: nothing to put back: the controller of noon changed no setting"
    assert lines[1:] == [f"removed what a dead controller left: cgroup {dead}"]
    assert not file.exists() and not dead.exists()


def test_restore_of_nowhere_is_one_line() -> None:
    refused(run("--restore", "--root", "/nonexistent"), "--root", "/nonexistent", "is no folder")


def test_a_board_without_a_meter_says_so() -> None:
    record = {"kernel": "6.1", "clocks": {}, "meter": "none: energy is missing"}
    assert found(record) == "found kernel 6.1; no meter: energy is missing"


@pytest.mark.parametrize(("power", "says"), [("modelled", ", energy modelled"), ("measured", "")])
def test_a_host_with_a_power_model_says_so(tmp_path: Path, power: str, says: str) -> None:
    (tmp_path / "host.toml").write_text(host_text(Sysfs("/"), clock="fixed"))
    save_profile(profile_of("host", tmp_path / "host.toml", power), tmp_path / "host-x.csv")
    words = ("--policy", "ladder", "--board", "host", "--profile", tmp_path / "host-x.csv", "--intervals", 1)
    header = run(*words).stdout.splitlines()[0]
    assert header.endswith(f"kind measured{says}")


def test_telemetry_goes_to_a_file_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/full", "/dev/stdout"):
        done = run("--policy", "ladder", "--board", "xu3", "--intervals", 1, "--telemetry", path)
        refused(done, f"{path}: cannot be written", "a pipe or a device")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--policy nope", ("--policy, value 'nope'", "known: ")),
        ("--policy nope.npz", ("--policy nope.npz: ",)),
        ("--policy ladder --fallback nope", ("--fallback, value 'nope'", "known: ")),
        ("--policy oracle", ("--policy, value 'oracle'", "cannot be flown")),
        ("--policy ladder --fallback static_best", ("--fallback, value 'static_best'", "cannot be flown")),
        ("--policy schedutil@9", ("--policy, value 'schedutil@9'", "no rung 9")),
        ("--policy ladder --board host", ("--profile is missing", "profile_board.py --board host")),
        ("--policy ladder --board host --backend real", ("--profile is missing", "profile_board.py --board host")),
    ],
)
def test_what_cannot_fly_is_named_with_its_option(tmp_path: Path, arguments: str, parts: tuple[str, ...]) -> None:
    refused(run_inside(tmp_path, "deploy_policy.py", "--board", "xu3", *arguments.split()), *parts)


@pytest.mark.slow
def test_deciding_takes_next_to_nothing_of_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_state_folder()
    (tmp_path / "host.toml").write_text(host_text(Sysfs("/"), clock="auto" if has_quota() else "fixed"))
    spec = load_board(tmp_path / "host.toml").spec
    profile = profile_of("host", tmp_path / "host.toml", "modelled")
    save_profile(profile, tmp_path / "host-x.csv")
    save_plan(WorkPlan(ladder="digits", rounds=(50, 500)), tmp_path)
    measured = load_profile(tmp_path / "host-x.csv", spec)
    policy = save_policy(spec, measured, 1, tmp_path / "policy.npz")
    (tmp_path / "mine.csv").write_text(
        "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_cpu,mem_gbps,ambient_c\n"
        "0,10,0.2,0.4,0.3,min_energy,0,0,25\n"
        "10,10,0.2,0.4,0.3,max_accuracy,0.5,0,25\n"
        "20,10,0.2,0.4,0.3,max_accuracy,0.5,0,25\n"
    )
    files = ("--policy", policy, "--profile", tmp_path / "host-x.csv", "--scenario", tmp_path / "mine.csv")
    done = run("--board", "host", "--backend", "real", *files)
    assert (done.returncode, done.stderr) == (0, "")
    told_of = done.stdout.splitlines()[-1]
    with capsys.disabled():
        print(f"\n{told_of}")
    shares = re.fullmatch(r"sense, decide and set: median .* \((.*) % of an interval\), p95 .* \((.*) %\)", told_of)
    assert shares is not None
    assert float(shares[1]) < 1.0
