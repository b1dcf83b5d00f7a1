"""Intervals of a comparison: scenarios drawn again, and the seeds of each; what is shown of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from experiments._evaluate import Comparison
from experiments._metrics import Row
from experiments._stats import resamples
from experiments._summary import Summary, saving, summarise
from experiments._table import cells, print_comparison, sentence, sentences
from hw.catalog import open_board
from tests.e2e.rows import row

PAIR = "schedutil@auto"


def compared(flights: Sequence[tuple[str, int, float]], name: str = "mine") -> Comparison:
    """One controller with these (scenario, seed, regret), a span of 2 each, and a pair that takes twice its energy."""
    bound = {(scenario, seed): -1.0 for scenario, seed, _ in flights}
    rows = [
        row(controller=who, scenario=scenario, seed=seed, regret=regret, energy_j=times * (4 + regret), reward_mean=0.0)
        for who, times in ((name, 1.0), (PAIR, 2.0))
        for scenario, seed, regret in flights
    ]
    return Comparison(rows, bound, dict.fromkeys(bound, -3.0), [])


def of(comparison: Comparison, name: str = "mine") -> Summary:
    return next(s for s in summarise(comparison) if s.controller == name)


def test_seeds_alike_narrow_nothing() -> None:
    regrets = {"a": 0.2, "b": 0.6, "c": 0.5}
    for names in ("ab", "abc"):
        one = of(compared([(s, 0, regrets[s]) for s in names]))
        five = of(compared([(s, seed, regrets[s]) for s in names for seed in range(5)]))
        assert five.regret_interval == pytest.approx(one.regret_interval)
        assert five.energy_interval_j == pytest.approx(one.energy_interval_j)
    assert one.regret_interval == pytest.approx((0.1, 0.3))


def test_an_interval_is_as_wide_as_scenarios_differ() -> None:
    """Sixty scenarios: as the normal distribution has it, 1.96 standard errors to either side."""
    drawn = np.random.default_rng(1).normal(1.0, 0.4, 60)
    found = of(compared([(f"s{i}", seed, float(r)) for i, r in enumerate(drawn) for seed in range(2)]))
    error = 1.96 * drawn.std() / math.sqrt(60) / 2
    low, high = found.regret_interval
    assert found.regret_normalised == pytest.approx(drawn.mean() / 2)
    assert (low, high) == pytest.approx((drawn.mean() / 2 - error, drawn.mean() / 2 + error), abs=0.1 * error)
    assert found.miss_interval == pytest.approx((0.02, 0.02))


def test_seeds_that_differ_are_drawn_too() -> None:
    alike = of(compared([(s, seed, 0.5) for s in "ab" for seed in range(3)]))
    apart = of(compared([(s, seed, 0.5 + 0.2 * (seed - 1)) for s in "ab" for seed in range(3)]))
    assert alike.regret_interval == pytest.approx((0.25, 0.25))
    assert apart.regret_interval[0] < 0.23 and apart.regret_interval[1] > 0.27


def test_resamples_are_whole_and_the_same_each_time() -> None:
    names = ["a", "a", "b", "c", "c", "c"]
    counts = resamples(names)
    assert np.array_equal(counts, resamples(names))
    of_scenario = np.stack([counts[:, [i for i, n in enumerate(names) if n == name]].sum(axis=1) for name in "abc"])
    assert np.array_equal((of_scenario / [[2], [1], [3]]).sum(axis=0), np.full(len(counts), 3.0))
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.06)


def test_a_saving_is_paired() -> None:
    """Flights differ much in energy; what one controller needs is half of the other's in each of them."""
    comparison = compared([(f"s{i}", 0, 3.0 * i) for i in range(8)])
    share, (low, high) = saving(comparison, "mine", PAIR)
    assert (share, low, high) == pytest.approx((0.5, 0.5, 0.5))
    assert sentence(comparison, "mine").endswith("mine uses 50 % less energy per frame (50 to 50 %).")


def test_one_scenario_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared([("a", seed, 0.1 * seed) for seed in range(5)])
    found = of(comparison)
    assert all(math.isnan(x) for x in (*found.regret_interval, *found.energy_interval_j, *found.miss_interval))
    assert math.isnan(saving(comparison, "mine", PAIR)[1][0])
    assert "(" not in "".join(cells(found, wide=True)) and "(" not in sentence(comparison, "mine").split(";")[1]
    lines = sentences(comparison, open_board("xu3").profile, ["mine"])
    assert any(line.startswith("No intervals: one scenario") for line in lines)


def test_intervals_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared([("a", 0, 0.2), ("b", 0, 0.6)])
    print_comparison(comparison, open_board("xu3").profile, ["mine"])
    said = capsys.readouterr().out
    assert "0.20 (0.10 to 0.30)" in said and "mine: energy per frame, mJ: 88.0 (84.0 to 92.0); misses" in said
    assert cells(of(comparison), wide=True)[0] == "88.0 (84.0 to 92.0)"


@pytest.mark.parametrize("name", ["runs/[final]/policy.npz", "runs/[/a]/p.npz", "a/" * 60 + "p.npz"])
def test_a_table_is_as_wide_as_a_pipe_and_keeps_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flights = [("a", 0, 40.0), ("b", 0, 60.0)]
    comparison = compared(flights, name)
    print_comparison(comparison, open_board("xu3").profile, [])
    table = capsys.readouterr().out.split("All figures")[0].splitlines()
    assert max(map(len, table)) <= 100
    assert name in "".join(line[:24].strip().removeprefix("> ") for line in table)
    assert "25.0 (20.0 to 30.0)" in "".join(table)


def breaches(with_frames: int, rate: float, **more: object) -> Mapping[str, object]:
    return {"intervals": 120, "intervals_with_frames": with_frames, "accuracy_breach_rate": rate, **more}


def test_rates_are_weighted_by_what_they_are_of() -> None:
    one: Row = row(**breaches(2, 0.5), frames=100, labelled=10, accuracy_mean=0.56)
    two: Row = row(**breaches(120, 0.0), frames=100, labelled=100, accuracy_mean=0.71, scenario="two")
    bound = {("one", 0): 0.0, ("two", 0): 0.0}
    found = summarise(Comparison([one, two], bound, bound, []))[0]
    assert found.breach_rate == pytest.approx(1 / 122)
    assert found.accuracy == pytest.approx((10 * 0.56 + 100 * 0.71) / 110)


WORSE = {
    "performance@1": (10.0, 0.030, 0.1),
    "performance@2": (8.0, 0.0349, 0.1),
    "performance@3": (5.0, 0.0351, 0.1),  # misses more than those that miss about least
    "powersave@1": (4.0, 0.01, 0.2),
    "powersave@2": (3.0, 0.016, 0.2),
    "ladder": (1.0, 0.0, 0.0),  # no pair
}


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (
            WORSE | {"schedutil@1": (12.0, 0.0, 0.0), "schedutil@2": (9.0, 0.02 + 1e-10, 0.1 + 1e-10)},
            "Best governor-and-rung pair with no more misses and no more breaches than mine: schedutil@2; "
            "mine uses 33 % less",
        ),
        (
            WORSE,
            "of those with no more breaches that miss least, the thriftiest is performance@2 "
            "(3.49 % misses, 10.00 % breaches); mine uses 25 % less",
        ),
        (
            {name: WORSE[name] for name in ("powersave@1", "powersave@2", "ladder")},
            "none has as few breaches; of all that miss least, the thriftiest is powersave@1 "
            "(1.00 % misses, 20.00 % breaches); mine uses 50 % more",
        ),
        ({"ladder": WORSE["ladder"]}, "No governor-and-rung pair was flown to compare mine with."),
    ],
)
def test_the_pair_that_a_saving_is_against(others: Mapping[str, tuple[float, float, float]], said: str) -> None:
    """Energy, misses and breaches of each: the thriftiest of those that are no worse, or of the least bad."""
    flown = {"mine": (6.0, 0.02, 0.1), **others}
    rows = [
        row(controller=who, energy_j=energy_j, miss_rate=misses, accuracy_breach_rate=breached)
        for who, (energy_j, misses, breached) in flown.items()
    ]
    bound = {("one", 0): 0.0}
    assert said in sentence(Comparison(rows, bound, bound, []), "mine")
