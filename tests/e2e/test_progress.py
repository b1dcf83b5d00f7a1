"""What a bar tells where nobody watches a terminal."""

from __future__ import annotations

import pytest

from experiments import _progress
from experiments._progress import Bar


class Clock:
    """In place of `time`."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_the_time_left_is_by_the_pace_of_late(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    monkeypatch.setattr("rich.console.monotonic", clock.monotonic)
    with Bar("training", "images") as bar:
        for done in range(500, 1001):  # taken up again; asleep for an hour in the middle
            clock.now_s += 3600.0 if done == 600 else 1.0
            bar.update(done, 1000, "well")
        bar.turn_to("measuring")
        for done in range(3):
            clock.now_s += 100.0
            bar.update(done, 4)
    told = capsys.readouterr().err.splitlines()
    assert "training: 58 %, 1 images/s, 411 s left, well" in told
    assert "training: 63 %, 1 images/s, 370 s left, well" in told, "the hour is forgotten"
    assert told[-1] == "measuring: 50 %, 0.0067 images/s, 300 s left", "slower than what counts as late: on average"


def test_short_parts_are_told_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is over before a line is due."""
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    monkeypatch.setattr("rich.console.monotonic", clock.monotonic)
    with Bar("group 0", "images") as bar:
        for part in range(4):
            bar.turn_to(f"group {part}")
            for done in range(11):
                bar.update(done, 10)
                clock.now_s += 1.0
    told = capsys.readouterr().err.splitlines()
    assert told == ["group 1: 40 %, 1 images/s, 6 s left", "group 2: 80 %, 1 images/s, 2 s left"]
