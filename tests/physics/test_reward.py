"""The reward is the sum of its documented terms, for one interval and for thousands at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.reward import TERMS, RewardWeights, ladder_ends, reward_terms
from hw.errors import InputError, Missing
from hw.types import Profile, Rung

W = RewardWeights()
BASE: dict[str, Any] = {
    "frames": 10,
    "missed": 0,
    "energy_j": 1.0,
    "energy_budget_j": 0.1,
    "accuracy": 0.6,
    "accuracy_min": 0.5,
    "accuracy_lo": 0.5,
    "accuracy_hi": 0.7,
    "goal": 0,
    "switched": (0, 0, 0),
    "temp_c": 50.0,
    "throttled": 0,
}
FLAG = st.integers(0, 1)


def fewer_missed(row: dict[str, Any]) -> dict[str, Any]:
    """At most all frames are missed."""
    return {**row, "missed": min(row["missed"], row["frames"])}


INTERVAL = st.fixed_dictionaries(
    {
        "frames": st.integers(0, 500),
        "missed": st.integers(0, 500),
        "energy_j": st.floats(0, 20),
        "energy_budget_j": st.floats(1e-3, 2),
        "accuracy": st.floats(0.5, 0.7),
        "accuracy_min": st.floats(0, 1),
        "accuracy_lo": st.just(0.5),
        "accuracy_hi": st.just(0.7),
        "goal": FLAG,
        "switched": st.tuples(FLAG, FLAG, FLAG),
        "temp_c": st.floats(-20, 120),
        "throttled": FLAG,
    }
).map(fewer_missed)


def terms(**changes: Any) -> dict[str, float]:
    return {name: float(value) for name, value in reward_terms(**{**BASE, **changes}).items()}


def by_hand(r: dict[str, Any]) -> dict[str, float]:
    """The table of envs/reward.py, one interval at a time."""
    frames = max(r["frames"], 1)
    e = min(r["energy_j"] / frames / r["energy_budget_j"], W.energy_cap)
    short = max(0.0, r["accuracy_min"] - r["accuracy"])
    accuracy = -(W.breach + W.shortfall * short) if short > 1e-6 else 0.0
    if r["goal"]:
        accuracy += (r["accuracy"] - r["accuracy_lo"]) / (r["accuracy_hi"] - r["accuracy_lo"])
    changed = sum(weight * flag for weight, flag in zip((W.rung, W.place, W.freq), r["switched"], strict=True))
    return {
        "energy": -W.over_budget * max(0.0, e - 1) if r["goal"] else -W.energy * e,
        "deadline": -W.deadline * r["missed"] / frames,
        "accuracy": accuracy,
        "switching": -changed,
        "heat": -(W.hot * max(0.0, r["temp_c"] - W.hot_c) / 10 + W.throttled * r["throttled"]),
    }


@given(st.lists(INTERVAL, min_size=1, max_size=8))
def test_arrays_agree_with_the_table(rows: list[dict[str, Any]]) -> None:
    columns: dict[str, Any] = {name: np.array([r[name] for r in rows]).T for name in BASE}
    got = reward_terms(**columns)
    assert tuple(got) == TERMS
    for i, row in enumerate(rows):
        for name, want in by_hand(row).items():
            assert got[name].shape == (len(rows),)
            assert got[name][i] == pytest.approx(want, abs=1e-9)


@given(INTERVAL)
def test_signs(row: dict[str, Any]) -> None:
    got = terms(**row)
    for name in ("energy", "deadline", "switching", "heat"):
        assert got[name] <= 0
    assert got["accuracy"] <= (1 + 1e-9 if row["goal"] else 0)
    assert all(math.isfinite(value) for value in got.values())


@given(INTERVAL, st.floats(0, 20), FLAG)
def test_more_energy_is_never_better(row: dict[str, Any], more_j: float, goal: int) -> None:
    row = {**row, "goal": goal}
    assert terms(**{**row, "energy_j": row["energy_j"] + more_j})["energy"] <= terms(**row)["energy"]


@given(INTERVAL, st.floats(0, 0.2))
def test_more_accuracy_is_never_worse(row: dict[str, Any], more: float) -> None:
    better = min(0.7, row["accuracy"] + more)
    assert terms(**{**row, "accuracy": better})["accuracy"] >= terms(**row)["accuracy"] - 1e-9


def test_no_energy_or_rung_pays_for_missed_frames() -> None:
    for goal in (0, 1):
        lost = sum(terms(goal=goal, missed=10, energy_j=0.0, accuracy=0.7).values())
        wasteful = sum(terms(goal=goal, energy_j=100.0, accuracy=0.5).values())
        assert wasteful > lost


def test_no_rung_pays_for_half_a_budget_more() -> None:
    modest = sum(terms(goal=1, accuracy=0.5, energy_j=1.0).values())
    greedy = sum(terms(goal=1, accuracy=0.7, energy_j=1.51).values())
    assert modest > greedy


def test_a_rung_at_its_own_floor_meets_it_in_single_precision() -> None:
    for accuracy in np.linspace(0.1, 0.99, 500):
        single = reward_terms(
            **{
                **BASE,
                "energy_j": np.ones(1, np.float32),
                "accuracy": np.float32(accuracy),
                "accuracy_min": accuracy,
            }
        )
        mixed = reward_terms(**{**BASE, "accuracy": float(np.float32(accuracy)), "accuracy_min": accuracy})
        assert float(single["accuracy"]) == 0 and float(mixed["accuracy"]) == 0
    assert terms(accuracy=0.5, accuracy_min=0.501)["accuracy"] == pytest.approx(-2.01)


def test_single_precision_stays_single() -> None:
    n = 4096
    rng = np.random.default_rng(0)
    batch: dict[str, Any] = {name: rng.uniform(0.1, 1, n).astype(np.float32) for name in BASE}
    batch |= {"goal": rng.integers(0, 2, n).astype(np.int8), "throttled": rng.random(n) < 0.5}
    batch |= {"frames": rng.integers(0, 20, n), "missed": np.zeros(n, np.int32)}
    batch |= {"switched": rng.random((3, n)) < 0.5, "accuracy_lo": 0.5, "accuracy_hi": np.float64(0.7)}
    for name, value in reward_terms(**batch).items():
        assert value.dtype == np.float32 and value.shape == (n,), name
    doubled: dict[str, Any] = {k: np.asarray(v, np.float64) for k, v in batch.items()}
    for name, value in reward_terms(**doubled).items():
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, reward_terms(**batch)[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("reading", [None, math.nan, np.float32(np.nan)])
def test_without_a_meter_there_is_no_reward(reading: object) -> None:
    with pytest.raises(Missing, match="needs a power meter"):
        terms(energy_j=reading)


def test_no_frames_still_pay_for_energy() -> None:
    assert terms(frames=0, energy_j=0.1)["energy"] == pytest.approx(-1)
    assert terms(frames=0, energy_j=0.1)["deadline"] == 0


def test_ladder_of_one_rung_has_nothing_to_gain() -> None:
    assert terms(goal=1, accuracy=0.6, accuracy_lo=0.6, accuracy_hi=0.6)["accuracy"] == 0
    rungs = tuple(Rung(index=i + 1, name="r", accuracy=a) for i, a in enumerate((0.4, 0.3, 0.5)))
    profile = Profile(name="p", board="b", kind="modelled", rungs=rungs, points=())
    assert ladder_ends(profile) == (0.3, 0.5)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_weight_is_named(value: float) -> None:
    with pytest.raises(InputError, match="'deadline'"):
        RewardWeights(deadline=value)
