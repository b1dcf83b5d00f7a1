"""The default profile of a board is the ladder with the best accuracy-latency front."""

from __future__ import annotations

import pytest

from experiments.judge_ladders import choice, cifar10_ladders, front, hypervolumes, useful
from hw.boardfile import board_names, load_board
from hw.ladderfile import ladder_names


@pytest.mark.parametrize("board", board_names())
def test_the_default_is_the_best_front(board: str) -> None:
    model, ladders = load_board(board), cifar10_ladders()
    assert model.default_profile == choice(ladders, hypervolumes([front(model, ladder) for ladder in ladders]))


def test_ladders_of_another_task_are_not_compared() -> None:
    assert set(ladder_names()) - set(cifar10_ladders()) == {"digits"}


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
