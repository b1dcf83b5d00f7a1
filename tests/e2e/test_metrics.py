"""What the columns of a comparison mean, checked against other ways to reckon them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.families import scenario_set
from envs.reward import DEFAULT_WEIGHTS
from experiments._evaluate import Comparison, evaluate
from experiments._metrics import Row, episode_row, latency_p95_s
from experiments._summary import summarise
from experiments._table import provenance, sentence
from hw.catalog import open_board
from hw.errors import InputError, Missing


def interval(samples: Any) -> Any:
    if len(samples) == 0:
        return SimpleNamespace(served=0, latency_mean_s=None, latency_p95_s=None)
    mean, p95 = float(np.mean(samples)), float(np.quantile(samples, 0.95))
    return SimpleNamespace(served=len(samples), latency_mean_s=mean, latency_p95_s=p95)


def test_p95_of_many_intervals_is_that_of_their_frames() -> None:
    rng = np.random.default_rng(3)
    # quick and slow spells of unequal length, an idle interval among them
    spells = [rng.normal(mean, mean / 20, n) for mean, n in ((0.02, 400), (0.05, 900), (0.11, 70), (0.2, 30))]
    found = latency_p95_s([interval(s) for s in (*spells, [])])
    assert found == pytest.approx(np.quantile(np.concatenate(spells), 0.95), rel=0.02)


def test_p95_of_one_interval_is_its_own_and_of_none_is_unknown() -> None:
    one = SimpleNamespace(served=9, latency_mean_s=0.03, latency_p95_s=0.041)
    assert latency_p95_s([one]) == pytest.approx(0.041)  # type: ignore[list-item]
    same = SimpleNamespace(served=9, latency_mean_s=0.03, latency_p95_s=0.03)
    assert latency_p95_s([same]) == pytest.approx(0.03)  # type: ignore[list-item]
    assert math.isnan(latency_p95_s([interval([])]))


def test_a_reading_that_is_lost_costs_no_flight() -> None:
    board = open_board("xu3")
    scenario = scenario_set("held_out", board.spec, board.profile, 1)[0]
    demands = [scenario.demand(0)] * 12
    first = board.reset(seed=0)
    record = [board.step(first.granted, d) for d in demands]

    def row(*lost: int) -> Row:
        told = [replace(t, energy_j=None) if k in lost else t for k, t in enumerate(record)]
        return episode_row("", "", 0, first, told, demands, board.profile, DEFAULT_WEIGHTS)

    whole, holed = row(), row(0, 3, 11)
    assert math.isfinite(holed.reward_mean)
    known = [t.total_energy_j or 0.0 for k, t in enumerate(record) if k not in (0, 3, 11)]
    assert holed.energy_j == pytest.approx(12 * np.mean(known)) == pytest.approx(whole.energy_j, rel=0.2)
    assert holed.energy_per_frame_j == pytest.approx(holed.energy_j / holed.frames)
    with pytest.raises(Missing, match="gave no energy for 2 intervals"):
        row(3, 4)
    with pytest.raises(Missing, match="gave no energy reading"):
        row(*range(12))


def test_accuracy_is_of_labelled_frames() -> None:
    board = open_board("xu3")
    scenario = scenario_set("held_out", board.spec, board.profile, 1)[0]
    first = board.reset(seed=0)
    served = [board.step(first.granted, scenario.demand(0)) for _ in range(2)]
    told = [replace(t, accuracy=a, labelled=n) for t, a, n in zip(served, (1.0, 0.0), (1, 9), strict=True)]
    found = episode_row("", "", 0, first, told, [scenario.demand(0)] * 2, board.profile, DEFAULT_WEIGHTS)
    assert found.accuracy_mean == pytest.approx(0.1) and found.labelled == 10


def test_columns_of_an_episode_by_hand() -> None:
    """Three intervals with frames and one without, which is below its floor too."""
    board = open_board("xu3")
    first = board.reset(seed=0)  # on the smallest rung
    demand = scenario_set("held_out", board.spec, board.profile, 1)[0].demand(0)
    fine = replace(
        board.step(first.granted, demand),
        accuracy=0.5,
        labelled=1,
        dropped=0,
        energy_j={"a15": 1.0},
        throttled=False,
        switched=False,
    )
    quick = replace(
        fine,
        frames=10,
        served=10,
        missed=2,
        latency_mean_s=0.1,
        latency_p95_s=0.1,
        temp_c={"soc": 50.0, "gpu": 71.0},
        switched=True,
    )
    slow = replace(quick, frames=5, served=3, missed=3, latency_mean_s=0.3, latency_p95_s=0.3, temp_c={"soc": 60.0})
    held_up = replace(quick, frames=85, served=67, missed=30, latency_mean_s=0.2, latency_p95_s=0.2, throttled=True)
    none = {"accuracy": None, "labelled": 0, "latency_mean_s": None, "latency_p95_s": None}
    idle = replace(fine, frames=0, served=0, missed=0, temp_c={"soc": 70.0}, **none)  # type: ignore[arg-type]
    smallest = board.profile.rung(1).accuracy
    demands = [replace(demand, accuracy_min=smallest + above) for above in (0.1, 0.0, 0.5e-6, 0.1)]
    found = episode_row("mine", "s", 7, first, [quick, slow, held_up, idle], demands, board.profile, DEFAULT_WEIGHTS)
    assert (found.controller, found.scenario, found.seed) == ("mine", "s", 7)
    assert (found.intervals, found.frames, found.intervals_with_frames) == (4, 100, 3)
    assert found.miss_rate == 0.35
    assert found.accuracy_mean == 0.5 and found.labelled == 3
    assert found.accuracy_breach_rate == pytest.approx(1 / 3)  # met to rounding, and the one without frames is none
    assert found.energy_j == 4.0 and found.energy_per_frame_j == 0.04
    assert found.latency_mean_s == pytest.approx((10 * 0.1 + 3 * 0.3 + 67 * 0.2) / 80)
    assert found.latency_p95_s == pytest.approx(0.2)  # fewer than a twentieth took longer
    assert found.temp_max_c == 71.0
    assert (found.throttled_share, found.switches) == (0.25, 3)
    assert math.isnan(found.regret)


@pytest.fixture(scope="module")
def comparison() -> Iterator[Comparison]:
    board = open_board("xu3")
    scenarios = scenario_set("held_out", board.spec, board.profile, 2)
    names = ["performance@auto", "performance@4", "schedutil@1", "oracle"]
    yield evaluate(names, "xu3", board.profile, scenarios, [0, 1], labels={"performance@4": "mine"})


def test_regret_is_scaled_from_the_oracle_to_the_careful_person(comparison: Comparison) -> None:
    regret = {s.controller: s.regret_normalised for s in summarise(comparison)}
    assert regret["oracle"] == 0 and regret["performance@auto"] == pytest.approx(1)
    assert regret.keys() == {"oracle", "performance@auto", "mine", "schedutil@1"}
    for row in comparison.rows:
        assert row.regret == comparison.bound[row.scenario, row.seed] - row.reward_mean


def test_energy_and_misses_of_a_summary_are_over_all_frames(comparison: Comparison) -> None:
    own = next(s for s in summarise(comparison) if s.controller == "mine")
    rows = [r for r in comparison.rows if r.controller == "mine"]
    frames = sum(r.frames for r in rows)
    assert len(rows) == 4
    assert own.energy_per_frame_j == pytest.approx(sum(r.energy_j for r in rows) / frames)
    assert own.miss_rate == pytest.approx(sum(r.miss_rate * r.frames for r in rows) / frames)


def test_the_sentence_names_the_pair_and_the_saving(comparison: Comparison) -> None:
    of = {s.controller: s for s in summarise(comparison)}
    said = sentence(comparison, "oracle")
    saved = 1 - of["oracle"].energy_per_frame_j / of["performance@auto"].energy_per_frame_j
    assert f"{100 * saved:.0f} % less energy per frame" in said and "performance@auto" in said


def test_the_sentence_says_so_where_no_pair_is_as_accurate(comparison: Comparison) -> None:
    worse = [
        replace(r, accuracy_breach_rate=0.5, miss_rate=r.miss_rate + 0.1) if "@" in r.controller else r
        for r in comparison.rows
    ]
    said = sentence(replace(comparison, rows=worse), "oracle")
    assert "none has as few breaches; of all that miss least, the thriftiest is" in said
    assert "of those with no more breaches" not in said


@pytest.mark.parametrize("backend", ["sim", "emulated", "real"])
@pytest.mark.parametrize(("power", "modelled"), [("modelled", True), ("measured", False)])
def test_made_up_power_is_called_modelled(backend: str, power: str, modelled: bool) -> None:
    profile = replace(open_board("xu3").profile, kind="measured", provenance={"power": power})
    assert ("energy modelled" in provenance(profile, backend)) == modelled


def test_two_scenarios_of_one_name_are_refused() -> None:
    board = open_board("xu3")
    one = scenario_set("held_out", board.spec, board.profile, 1)[0]
    with pytest.raises(InputError, match="held_out-00"):
        evaluate(["ladder"], "xu3", board.profile, [one, one], [0])
