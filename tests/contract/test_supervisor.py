"""Somebody watches a controller by its heart-beat; and the board is put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents import supervisor
from agents.policy import make_policy
from agents.supervisor import LOG, SLACK_S, START_S, Supervisor, _starved_s, takes, tell
from agents.watch import (
    Fault,
)
from envs.families import scenario_set
from experiments._flight import Flight
from hw.catalog import open_board
from hw.errors import Refused
from hw.real.emulated import EmulatedLoad
from hw.real.lock import FOLDER
from hw.real.state import BOOT_ID, Hold, rescue, state_file
from hw.real.sysfs import Sysfs
from tests.processes import until

GOVERNOR = "sys/governor"


def test_what_a_load_needs_is_started_before_a_beat_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's load starts in seconds; in the middle of a flight the controller would be ended for its silence."""
    told: list[object] = []
    beat = Supervisor.beat
    monkeypatch.setattr(EmulatedLoad, "prepare", lambda self, loads: told.append([x.busy["gpu"] for x in loads]))
    monkeypatch.setattr(Supervisor, "beat", lambda self, s: (told.append("beat"), beat(self, s))[1])  # type: ignore[func-returns-value]
    board = open_board("jetson_nano", backend="emulated")
    scenario = scenario_set("held_out", board.spec, board.profile, 1)[0]
    load = np.zeros_like(scenario.load)
    load[2, 1] = 0.5
    flight = Flight(board, make_policy("ladder"), title="", hot_c=200.0)
    assert flight.fly(replace(scenario, load=load), seed=0, intervals=1) == 0
    assert told[0] == [0.0, 0.0, 0.5, *[0.0] * (len(load) - 4)] and told[1] == "beat"


def test_before_the_board_is_put_back_it_has_time_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    flight = Flight(open_board("xu3"), make_policy("ladder"), title="", hot_c=200.0)
    monkeypatch.setattr(flight, "_board", SimpleNamespace(close=lambda: told.append("put back")))
    watched = SimpleNamespace(beat=told.append, close=lambda: told.append("watched no more"))
    monkeypatch.setattr(flight, "_supervisor", watched)
    flight._land()
    assert told == [START_S, "put back", "watched no more"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with one setting."""
    for path, text in ((GOVERNOR, "ondemand"), (BOOT_ID, "boot-1")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    return tmp_path


CONTROLLER = f"""
import sys, time
from pathlib import Path
from agents.supervisor import Supervisor
from hw.real.state import Hold
from hw.real.sysfs import Sysfs
sysfs = Sysfs(sys.argv[1])
supervisor = Supervisor(sysfs.root)
hold = Hold(sysfs, "xu3")
hold.take(lambda: {{"{GOVERNOR}": sysfs.read("{GOVERNOR}")}})
sysfs.write("{GOVERNOR}", "userspace")
supervisor.beat(float(sys.argv[2]))  # before anybody may stop it: until then it has half a minute
print(supervisor.pid, flush=True)
while True:
    supervisor.beat(float(sys.argv[2]))
    time.sleep(0.02)
"""


@pytest.fixture
def fly(root: Path) -> Iterator[Callable[[float], tuple[subprocess.Popen[str], int]]]:
    """Starts a controller on the machine, which promises beats within so many seconds; it and its supervisor's id."""
    flying: list[subprocess.Popen[str]] = []

    def start(promise_s: float) -> tuple[subprocess.Popen[str], int]:
        words = [sys.executable, "-c", CONTROLLER, str(root), str(promise_s)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        flying.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in flying:
        process.kill()
        process.communicate()


def governor(root: Path) -> str:
    return (root / GOVERNOR).read_text().strip()


def back(root: Path) -> bool:
    return governor(root) == "ondemand" and not state_file(root).exists()


def test_a_killed_controller_s_board_is_put_back(root: Path, fly: Callable[..., Any]) -> None:
    controller, _ = fly(5.0)
    assert governor(root) == "userspace"
    controller.kill()
    assert until(lambda: back(root)) < 1.0
    _, said = controller.communicate(timeout=20)  # the supervisor has the other end too: it has ended then
    assert said.startswith(f"supervisor: the controller (process {controller.pid}) is gone; xu3 was put back 0.")
    assert said.count("\n") == 1
    assert said.strip() in (root / FOLDER / LOG).read_text()


def test_a_silent_controller_is_ended(root: Path, fly: Callable[..., Any]) -> None:
    promise_s = 0.3
    controller, _ = fly(promise_s)
    controller.send_signal(signal.SIGSTOP)
    assert until(lambda: back(root)) < 1.0
    _, said = controller.communicate(timeout=20)
    assert controller.returncode == -signal.SIGKILL
    assert "was not heard of for 0.3 s and was ended; xu3 was put back 0." in said


def test_a_controller_that_ends_in_order_is_left_alone(root: Path, fly: Callable[..., Any]) -> None:
    controller, pid = fly(5.0)
    controller.terminate()
    assert until(lambda: back(root)) < 1.0
    _, said = controller.communicate(timeout=20)
    assert controller.returncode == -signal.SIGTERM
    assert said == ""
    until(lambda: ended(pid))


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for whoever adopted it to notice."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_controller_hears_of_its_supervisor_s_death(root: Path, fly: Callable[..., Any]) -> None:
    controller, pid = fly(5.0)
    os.kill(pid, signal.SIGTERM)  # it ends with its controller and not before
    time.sleep(0.1)
    assert controller.poll() is None
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: back(root)) < 1.0
    _, said = controller.communicate(timeout=20)
    assert "Fault: the supervisor died" in said


def test_what_another_controller_holds_is_not_touched(root: Path, fly: Callable[..., Any]) -> None:
    controller, _ = fly(5.0)
    with pytest.raises(Refused, match=f"another controller holds this board \\(process {controller.pid}"):
        rescue(root)
    assert rescue(root, pid=os.getpid()) is None
    assert governor(root) == "userspace"
    Supervisor(root).close()  # of a controller that was refused
    assert governor(root) == "userspace"


def test_both_killed_the_next_one_puts_it_back(root: Path, fly: Callable[..., Any]) -> None:
    controller, pid = fly(5.0)
    os.kill(pid, signal.SIGKILL)
    controller.kill()
    controller.communicate(timeout=20)
    if not back(root):  # else the controller heard of it first
        assert governor(root) == "userspace"
        saved = rescue(root)
        assert saved is not None
        assert saved.values == {GOVERNOR: "ondemand"}
    assert back(root)
    assert rescue(root) is None
    hold = Hold(Sysfs(root), "xu3")
    hold.take(dict)  # it is nobody's any more
    hold.release()


def test_a_supervisor_that_hangs_is_told_of(root: Path) -> None:
    supervisor = Supervisor(root)
    os.kill(supervisor.pid, signal.SIGSTOP)
    with pytest.raises(Fault, match="the supervisor hangs"):
        for _ in range(100_000):
            supervisor.beat(1.0)
    os.kill(supervisor.pid, signal.SIGCONT)
    supervisor.close()
    supervisor.close()


def test_a_line_is_one_line_and_needs_no_folder(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(tmp_path / "nowhere", "two\nlines")
    tell(None, "no machine")
    assert capsys.readouterr().err == "two lines\nno machine\n"
    assert takes(StringIO())


def test_who_waits_for_a_core_is_not_silent() -> None:
    """Two processes want the same core, so together they wait as long as that is."""
    core = min(os.sched_getaffinity(0))
    spin = f"import os, time\nos.sched_setaffinity(0, [{core}])\nwhile True: time.process_time()"
    spinning = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    try:
        pids = [process.pid for process in spinning]
        until(lambda: _starved_s(pids) > 0.2)
        assert _starved_s([]) == 0.0
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    assert _starved_s(pids) == 0.0, "who is gone waits for nothing"


class Waiting:
    """A supervisor's clock and pipe in its place: time passes while it looks, and what is said it finds at some look.

    `starved_s`: how long the controller (7) and whom it waits for (8) have been without a core by then.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        said: Mapping[int, bytes],
        *,
        starved_s: Callable[[float], float] = lambda now_s: 0.0,
        parent: int = 7,
    ) -> None:
        self.now_s, self.looks, self.ended = 0.0, 0, list[tuple[int, int]]()
        self._said = said
        system = SimpleNamespace(
            read=lambda *_: said[self.looks], getppid=lambda: parent, kill=lambda *what: self.ended.append(what)
        )
        monkeypatch.setattr(supervisor, "os", system)
        monkeypatch.setattr(supervisor, "select", self)
        monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(supervisor, "_starved_s", lambda pids: starved_s(self.now_s) if pids == (7, 8) else 0.0)

    def select(self, read: object, write: object, error: object, seconds: float) -> tuple[bool]:
        self.now_s += seconds
        self.looks += 1
        return (self.looks in self._said,)

    def wait(self) -> str:
        return supervisor._wait(7, (8,))


def test_who_gets_no_core_is_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, {100: b""}, starved_s=lambda now_s: now_s)
    assert waiting.wait() == "is gone"
    assert waiting.now_s > 10 * START_S and not waiting.ended


@pytest.mark.parametrize(("said", "promised_s", "until_s"), [({}, START_S, 40.0), ({1: b"1.0\n5.0\n"}, 5.0, 35.0)])
def test_time_without_a_core_counts_for_one_promise(
    monkeypatch: pytest.MonkeyPatch, said: Mapping[int, bytes], promised_s: float, until_s: float
) -> None:
    waiting = Waiting(monkeypatch, said, starved_s=lambda now_s: min(now_s, 10.0))
    assert waiting.wait() == f"was not heard of for {promised_s:.1f} s and was ended"
    assert waiting.now_s == until_s and waiting.ended == [(7, signal.SIGKILL)]


@pytest.mark.parametrize("look", [1, 2, 3, 4])
def test_the_supervisor_looks_again_once_the_time_is_up(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    waiting = Waiting(monkeypatch, {look: b""})
    assert waiting.wait() == "is gone"
    assert waiting.now_s == START_S and not waiting.ended


def test_whose_child_the_supervisor_is_no_more_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number may be another process's by then."""
    waiting = Waiting(monkeypatch, {}, parent=1)
    assert "was not heard of" in waiting.wait()
    assert not waiting.ended


def test_whoever_hangs_is_ended_within_a_second() -> None:
    assert open_board("xu3").spec.interval_s + SLACK_S < 0.9
