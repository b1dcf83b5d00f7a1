"""The default profile of a board is the ladder with the best accuracy-latency front."""

from __future__ import annotations

import pytest

from experiments.judge_ladders import cifar10_ladders, front, scores
from hw.boardfile import board_names, load_board
from hw.errors import InputError
from hw.ladderfile import ladder_names


@pytest.mark.parametrize("board", board_names())
def test_the_default_is_the_best_front(board: str) -> None:
    model, ladders = load_board(board), cifar10_ladders()
    found = scores([front(model, ladder) for ladder in ladders])
    assert model.default_profile == ladders[found.index(max(found))]


def test_ladders_of_another_task_are_not_compared() -> None:
    assert set(ladder_names()) - set(cifar10_ladders()) == {"digits"}


def test_a_front_is_read_within_budgets() -> None:
    quick, slow = ((1.0, 0.5), (4.0, 0.9)), ((2.0, 0.8),)
    assert scores([quick, slow]) == pytest.approx(
        [0.5, 0.8], abs=1e-3
    )  # from 2 to 4 s, where 0.9 is met at the end only
    falling = ((1.0, 0.9), (4.0, 0.5))  # the larger rung is worse: nobody takes it
    assert scores([falling, quick])[0] == pytest.approx(0.9)
    with pytest.raises(InputError, match="no range of latencies"):
        scores([((1.0, 0.5),), ((1.0, 0.6),)])
