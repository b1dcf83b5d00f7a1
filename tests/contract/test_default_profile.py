"""The default profile of a board is the ladder with the best accuracy-latency front."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from experiments.judge_ladders import choice, cifar10_ladders, front, hypervolumes, main, useful, weight_bytes
from hw.boardfile import board_names, load_board
from hw.errors import InputError
from hw.ladderfile import LADDER_FILE, ZOO, ladder_names


@pytest.mark.parametrize("board", board_names())
def test_the_default_is_the_best_front(board: str) -> None:
    model, ladders = load_board(board), cifar10_ladders()
    assert model.default_profile == choice(ladders, hypervolumes([front(model, ladder) for ladder in ladders]))


def test_ladders_of_another_task_are_not_compared() -> None:
    assert set(ladder_names()) - set(cifar10_ladders()) == {"digits"}


def judged(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["judge_ladders.py", *words])
    main()


def test_the_ladders_asked_for_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    judged(monkeypatch, "--boards", "xu3", "--ladders", "alexnet-group", str(ZOO / "resnet20-uniform"))
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.count("| xu3 |") for row in rows] == [1, 1] and "alexnet-group" in rows[0]


@pytest.mark.parametrize("what", ["a profile", "damaged", "nothing"])
def test_what_is_no_ladder_is_refused_before_a_word(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ZOO / "digits", tmp_path / "damaged")
    (tmp_path / "damaged" / LADDER_FILE).write_text("{")
    name = {"a profile": "paper", "damaged": str(tmp_path / "damaged"), "nothing": str(tmp_path)}[what]
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        judged(monkeypatch, "--ladders", "alexnet-group", name)
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


def test_the_area_under_a_front() -> None:
    quick, slow = ((1.0, 0.5), (4.0, 0.9)), ((2.0, 0.8),)
    # the worst corner: 4 s, 50 %; the quick one's second rung is that slow, the slow one has a doubling at 30 points
    assert hypervolumes([quick, slow]) == pytest.approx([0.0, 30.0])
    assert hypervolumes([(*quick, (8.0, 0.9)), slow]) == pytest.approx([0.0, 30.0]), "beaten rungs move nothing"
    assert hypervolumes([((1.0, 0.5), (2.0, 0.7), (4.0, 0.9))]) == pytest.approx([20.0])
    assert hypervolumes([((9.0, 0.9),), ((1.0, 0.95),)]) == [0.0, 0.0]
    assert useful([(2.0, 0.5), (1.0, 0.6), (1.0, 0.6), (3.0, 0.6), (4.0, 0.7)]) == [(1.0, 0.6), (4.0, 0.7)]


def test_of_those_alike_the_smallest_is_taken() -> None:
    ladders = ("resnet20-uniform", "alexnet-group")
    assert choice(ladders, [100.0, 86.0]) == "alexnet-group"
    assert choice(ladders, [100.0, 84.0]) == "resnet20-uniform"


def test_weights_of_16_bits_count_as_those_of_32() -> None:
    files = {ladder: (ZOO / ladder / "model.bin").stat().st_size for ladder in ("alexnet-slimmable", "alexnet-group")}
    assert weight_bytes("alexnet-slimmable") == pytest.approx(2 * files["alexnet-slimmable"], rel=0.01)
    assert weight_bytes("alexnet-group") == pytest.approx(files["alexnet-group"], rel=0.01)
