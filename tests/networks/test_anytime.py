"""A frame that starts small and goes up the ladder while there is time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn.camera import camera
from dyndnn.frames import open_frames
from dyndnn.network import Network
from dyndnn.prices import Prices
from dyndnn.settings import Settings
from dyndnn.worker import Worker
from tests.serving import Record


def test_anytime_upgrades_while_time_is_left(group_folder: Path) -> None:
    told: list[Record] = []
    settings = Settings(anytime=True, deadline_s=10.0)
    worker = Worker(group_folder, settings, told.append, threads=1)
    frame = np.zeros((3, 16, 16), np.uint8)
    now_s = time.monotonic()
    worker.serve(frame, now_s)
    worker.serve(frame, now_s, next_s=now_s)  # the next one is waiting
    settings.rung = 1
    worker.serve(frame, now_s, next_s=now_s)
    worker._prices.paid(3, 100.0, 1.0)  # the last step is known to take too long
    worker.serve(frame, time.monotonic())
    settings.anytime = False
    worker.serve(frame, time.monotonic())
    worker.serve(frame, time.monotonic() - 11)
    assert [r.get("rung") for r in told] == ["100%", "25%", "50%", "75%", "50%", None]
    assert told[-1]["dropped"]


def test_a_price_rises_at_once_and_falls_slowly() -> None:
    prices = Prices([1.0, 2.0], [1.0, 1.0])
    assert prices.pace(1, 4.0) == 2.0 and prices.upgrade_s(1, 2.0) == 2.0
    prices.paid(1, 200.0, 2.0)
    assert prices.upgrade_s(1, 1.0) == 100.0
    prices.paid(1, 0.002, 2.0)
    assert prices.upgrade_s(1, 1.0) == pytest.approx(90.0001)
    prices.declined(1)
    assert 80.0 < prices.upgrade_s(1, 1.0) < 90.0
    assert prices.pace(0, 1e6) == 16.0, "held up, not slow"


class Clock:
    """In place of `time` and of a network's inference: a rung takes a second, times `slow`; a frame is `held_s` up."""

    def __init__(self) -> None:
        self.now_s, self.slow, self.held_s, self.rung = 0.0, 1.0, 0.0, -1

    def monotonic(self) -> float:
        return self.now_s

    def begin(self, _: object) -> Clock:
        self.now_s += self.held_s
        self.rung = -1
        return self

    def upto(self, rung: int) -> np.ndarray[Any, Any]:
        self.now_s += self.slow * (rung - self.rung)
        self.rung = rung
        return np.zeros(10, np.float32)


def test_anytime_recovers_from_a_slow_frame(group_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), list[Record]()
    for room in ("worker", "prices"):
        monkeypatch.setattr(f"dyndnn.{room}.time", clock)
    monkeypatch.setattr(Network, "begin", lambda _, frame: clock.begin(frame))
    worker = Worker(group_folder, Settings(anytime=True, deadline_s=4.5), told.append)

    def rung(slow: float = 1.0) -> object:
        clock.slow = slow
        worker.serve(np.zeros(()), clock.now_s)
        return told[-1]["rung"]

    assert rung() == "100%"
    assert [rung(2.0), rung(2.0)] == ["50%"] * 2 and rung() == "100%", "a clock that changes changes all rungs alike"
    clock.held_s, worker.settings.deadline_s = 100.0, 150.0
    assert rung() == "100%", "a frame that was held up is no slower clock"
    clock.held_s, worker.settings.deadline_s = 0.0, 4.5
    worker._prices.paid(1, 40.0, 1.0)  # one upgrade was held up by something else
    assert rung() == "25%"
    assert [rung() for _ in range(1000)][-1] == "100%"


def test_anytime_without_a_rate_has_all_of_the_deadline(group_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", np.zeros((3, 16, 16), np.uint8))
    told: list[Record] = []
    worker = Worker(group_folder, Settings(anytime=True, deadline_s=10.0), told.append)
    camera(worker, open_frames(tmp_path), None, 3, None)
    assert [r["rung"] for r in told] == ["100%"] * 3
