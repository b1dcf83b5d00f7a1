"""Scenario files are read exactly or refused with one clear line; families are what their table says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from envs.families import FAMILIES, MAX_ROWS, generate, scenario_set
from envs.scenario import Scenario, columns, load_scenario, save_scenario
from hw.boardfile import load_board
from hw.errors import InputError
from hw.profile import open_profile
from hw.types import BoardSpec, Clock, OperatingPoint, Profile, Rung, Unit

CPU = Clock(name="cpu", freqs_hz=(5e8, 1e9, 2e9), volts=(0.9, 1.0, 1.2))
GPU = Clock(name="gpu", freqs_hz=(3e8, 9e8), volts=(0.9, 1.1))
SPEC = BoardSpec(
    name="bench",
    clocks=(CPU, GPU),
    units=(
        Unit(name="big", clock="cpu", cores=4, big=True),
        Unit(name="gpu", clock="gpu", cores=1, kind="gpu"),
    ),
    rails=("big", "gpu"),
    thermal_nodes=("soc",),
)


def ladder(spec: BoardSpec, accuracies: tuple[float, ...]) -> Profile:
    """A profile with Amdahl speed-up and cubic power, on any board."""
    points = tuple(
        OperatingPoint(
            rung=k + 1,
            unit=unit,
            cores=cores,
            freq_hz=freq,
            latency_mean_s=(k + 1) * 5e7 / freq * (0.1 + 0.9 / cores),
            latency_std_s=0.0,
            latency_p95_s=(k + 1) * 5e7 / freq,
            power_w=0.1 + cores * 0.1 * (freq / 1e9) ** 3,
            rail_power_w={"big": 0.1, "gpu": 0.05},
            samples=0,
        )
        for k in range(len(accuracies))
        for unit, cores in spec.placements
        for freq in spec.clock(spec.unit(unit).clock).freqs_hz
    )
    rungs = tuple(Rung(index=k + 1, name=f"r{k}", accuracy=a) for k, a in enumerate(accuracies))
    return Profile(name="made", board=spec.name, kind="modelled", rungs=rungs, points=points)


PROFILE = ladder(SPEC, (0.5, 0.6, 0.65))
HEADER = "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_big,load_gpu,mem_gbps,ambient_c"
GOOD = (
    "0,10,0.1,0.5,0.05,min_energy,0,0,0,25",
    "1.5,10,0.1,0.5,0.05,max_accuracy,4,1,0.5,25",
    "60,10,0.1,0.5,0.05,min_energy,0,0,0,25",
)


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def worst_case(family: str, count: int = 60) -> list[Scenario]:
    return scenario_set(family, SPEC, PROFILE, count, seed=3)


def test_reads_rows_in_force(tmp_path: Path) -> None:
    s = load_scenario(write(tmp_path / "day.csv", *GOOD), SPEC)
    assert (s.name, s.family, s.duration_s, s.n_intervals(0.5)) == ("day", "file", 60.0, 120)
    assert s.changes(0.5) == {0: 0, 3: 1}
    assert s.changes(0.4) == {0: 0, 4: 1}  # from the first interval that starts no sooner
    assert s.demand(1).goal == "max_accuracy"
    assert s.background(1, SPEC).busy == {"big": 4.0, "gpu": 1.0}
    assert s.demand(0).energy_budget_j == 0.05
    with pytest.raises(ValueError):
        s.load[0, 0] = 1.0
    other = load_scenario(write(tmp_path / "day2.csv", GOOD[0], GOOD[1].replace(",4,1,", ",4,0.9,"), GOOD[2]), SPEC)
    again = load_scenario(write(tmp_path / "day3.csv", *GOOD), SPEC)
    assert s.checksum == again.checksum != other.checksum


def test_change_at_an_inexact_time(tmp_path: Path) -> None:
    rows = [g.replace("1.5,", "0.8,", 1) if g.startswith("1.5") else g for g in GOOD]
    s = load_scenario(write(tmp_path / "a.csv", *rows), SPEC)
    assert s.changes(0.1) == {0: 0, 8: 1}
    assert s.changes(0.8 / 3) == {0: 0, 3: 1}


def test_of_rows_within_an_interval_the_last_one_counts(tmp_path: Path) -> None:
    rows = [GOOD[0], *(GOOD[1].replace("1.5,", f"{t},", 1) for t in (0.3, 1.1, 1.2, 1.5)), GOOD[2]]
    assert load_scenario(write(tmp_path / "a.csv", *rows), SPEC).changes(0.5) == {0: 0, 1: 1, 3: 4}


def test_columns_in_any_order(tmp_path: Path) -> None:
    flip = [",".join(reversed(line.split(","))) for line in (HEADER, *GOOD)]
    s = load_scenario(write(tmp_path / "a.csv", *flip[1:], header=flip[0]), SPEC)
    assert s.demand(1).goal == "max_accuracy" and s.load[1].tolist() == [4.0, 1.0]
    assert ",".join(columns(SPEC)) == HEADER


@pytest.mark.parametrize(
    ("column", "text", "problem"),
    [
        ("rate_hz", "nan", "not a finite number"),
        ("rate_hz", "many", "not a number"),
        ("rate_hz", "0", "too low"),
        ("deadline_s", "-0.1", "too low"),
        ("energy_budget_j", "0", "too low"),
        ("energy_budget_j", "inf", "not a finite number"),
        ("accuracy_min", "1.01", "too high"),
        ("accuracy_min", "-0.1", "too low"),
        ("goal", "min-energy", "unknown goal; one of min_energy, max_accuracy"),
        ("load_big", "4.01", "too high; a number from 0 to 4"),
        ("load_big", "-0.1", "too low"),
        ("load_gpu", "1.5", "too high; a number from 0 to 1"),
        ("mem_gbps", "-1", "too low"),
        ("rate_hz", "1e-50", "too low; a number from 1e-06 to 1e+06"),
        ("rate_hz", "1e39", "too high"),
        ("deadline_s", "1e-50", "too low"),
        ("deadline_s", "1e39", "too high; a number from 1e-06 to 1e+06"),
        ("energy_budget_j", "1e-50", "too low"),
        ("energy_budget_j", "1e39", "too high; a number from 1e-09 to 1e+09"),
        ("mem_gbps", "1e39", "too high; a number from 0 to 100"),
        ("t_s", "1e300", "too high; a number from 0 to 1e+09"),
        ("ambient_c", "86", "too high; a number from -40 to 85"),
        ("ambient_c", "", "not a number"),
        ("t_s", "0", "repeated time; later than the row before (0)"),
        ("t_s", "70", "unsorted time; later than the row before (70)"),
        ("t_s", "nan", "not a finite number"),
    ],
)
def test_wrong_cell_is_named(tmp_path: Path, column: str, text: str, problem: str) -> None:
    cells = GOOD[1].split(",")
    cells[HEADER.split(",").index(column)] = text
    path = write(tmp_path / "a.csv", GOOD[0], ",".join(cells), GOOD[2])
    with pytest.raises(InputError) as error:
        load_scenario(path, SPEC)
    line = 4 if text == "70" else 3  # 70 itself is fine; the row after it is not later
    assert str(error.value).startswith(f"{path}:{line}, column {column!r}")
    assert problem in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "rows", "problem"),
    [
        (HEADER.replace(",load_gpu", ""), GOOD, "column 'load_gpu': missing column"),
        (HEADER.replace("load_gpu", "load_npu"), GOOD, "column 'load_npu': unknown column"),
        (HEADER.replace("load_gpu", "load_big"), GOOD, "column 'load_big': duplicate column"),
        (HEADER, GOOD[:1], ":2: only one row"),
        (HEADER, (), "no rows"),
        (HEADER, (GOOD[1], GOOD[2]), ":2, column 't_s', value '1.5': late start; the first row is at 0"),
        (
            HEADER,
            (GOOD[0], GOOD[2].replace("60", "0.4", 1)),
            "value '0.4': shorter than one control interval",
        ),
        (HEADER, (GOOD[0], "1,2"), ":3: 2 cells"),
    ],
)
def test_wrong_table_is_named(tmp_path: Path, header: str, rows: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InputError) as error:
        load_scenario(write(tmp_path / "a.csv", *rows, header=header), SPEC)
    assert problem in str(error.value) and "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        load_scenario(tmp_path / "none.csv", SPEC)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_scenario_reads_back_exactly(tmp_path: Path, family: str) -> None:
    for s in scenario_set(family, SPEC, PROFILE, 5, seed=1):
        save_scenario(s, tmp_path / f"{s.name}.csv", SPEC)
        back = load_scenario(tmp_path / f"{s.name}.csv", SPEC)
        assert back.name == s.name
        assert same(back, s)


def test_saving_refuses_what_reading_refuses(tmp_path: Path) -> None:
    s = generate("train", SPEC, PROFILE, np.random.default_rng(0))
    values = {c: getattr(s, c) for c in (*COLUMNS, "load")}
    values["rate_hz"] = np.full(len(s.t_s), np.nan)
    with pytest.raises(InputError, match="rate_hz"):
        save_scenario(Scenario(name="x", family="x", **values), tmp_path / "x.csv", SPEC)
    with pytest.raises(InputError, match="folder"):
        save_scenario(s, tmp_path / "none" / "x.csv", SPEC)
    assert not list(tmp_path.iterdir())
    other = BoardSpec(name="other", clocks=(CPU,), units=SPEC.units[:1], rails=(), thermal_nodes=())
    with pytest.raises(InputError, match="load for 2 units; other has 1"):
        save_scenario(s, tmp_path / "x.csv", other)
    with pytest.raises(InputError, match="its first row is at 1 s; it must be at 0"):
        Scenario(name="x", family="x", **{**values, "t_s": s.t_s + 1})
    with pytest.raises(InputError, match="has shape"):
        Scenario(name="x", family="x", **{**values, "rate_hz": np.ones(2)})


COLUMNS = ("t_s", "rate_hz", "deadline_s", "accuracy_min", "energy_budget_j", "goal", "mem_gbps", "ambient_c")


def same(a: Scenario, b: Scenario) -> bool:
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in (*COLUMNS, "load"))


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_set(family: str) -> None:
    first, again = worst_case(family, 4), worst_case(family, 8)
    assert [s.name for s in first] == [f"{family}-{i:02d}" for i in range(4)]
    assert all(same(a, b) for a, b in zip(first, again, strict=False))
    everything = [*again, *scenario_set(family, SPEC, PROFILE, 8, seed=4)]
    assert not any(same(a, b) for i, a in enumerate(everything) for b in everything[:i])


@pytest.mark.parametrize("duration_s", [0.5, 3.0, 60.0, 600.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_lie_on_the_grid(family: str, duration_s: float) -> None:
    for i in range(30):
        s = generate(family, SPEC, PROFILE, np.random.default_rng(i), duration_s=duration_s)
        assert 2 <= len(s.t_s) <= MAX_ROWS
        assert s.t_s[0] == 0 and s.t_s[-1] == s.duration_s == duration_s
        assert (np.diff(s.t_s) > 0).all() and np.array_equal(s.t_s % 0.5, np.zeros(len(s.t_s)))


def test_unknown_names_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="one of train, shifted, held_out"):
        generate("hard", SPEC, PROFILE, rng)
    with pytest.raises(InputError, match="one of train, shifted, held_out"):
        scenario_set("hard", SPEC, PROFILE, 1)
    with pytest.raises(InputError, match="of board 'bench', not 'other'"):
        generate("train", BoardSpec(**{**vars(SPEC), "name": "other"}), PROFILE, rng)
    with pytest.raises(InputError, match="shorter than one interval"):
        generate("train", SPEC, PROFILE, rng, duration_s=0.2)
    with pytest.raises(InputError, match="0 or more"):
        scenario_set("train", SPEC, PROFILE, 1, seed=-1)


def test_floors_follow_the_ladder() -> None:
    for accuracies in ((0.5, 0.6, 0.65), (0.9, 0.9005, 0.95), (0.7,), (0.3, 0.2, 0.4)):
        profile = ladder(SPEC, accuracies)
        floors = np.concatenate([s.accuracy_min for s in scenario_set("train", SPEC, profile, 60)])
        needed = {next((i for i, a in enumerate(accuracies) if a >= f), None) for f in floors}
        assert None not in needed and (floors == 0).any()
        reachable = {next(i for i, b in enumerate(accuracies) if b >= a) for a in accuracies}
        assert needed == reachable


@pytest.mark.parametrize("family", FAMILIES)
def test_some_operating_point_keeps_up_in_every_row(family: str) -> None:
    for s in worst_case(family):
        for row in range(len(s.t_s)):
            demand, load = s.demand(row), s.background(row, SPEC)
            served = [
                p.latency_mean_s * (1 + load.busy[p.unit] / SPEC.unit(p.unit).cores)
                for p in PROFILE.points
                if PROFILE.rung(p.rung).accuracy >= demand.accuracy_min
            ]
            assert min(served) < demand.deadline_s
            assert min(served) * demand.rate_hz <= 0.81


@pytest.mark.parametrize("family", FAMILIES)
def test_both_goals_occur(family: str) -> None:
    goals = np.concatenate([s.goal[:-1] for s in worst_case(family)])
    assert 0.15 < goals.mean() < 0.45


def test_families_differ_as_documented() -> None:
    room = np.array([4.0, 1.0])
    train, shifted, held_out = (worst_case(f) for f in FAMILIES)

    def mean(scenarios: list[Scenario], column: str) -> float:
        return float(np.mean([np.mean(getattr(s, column)[:-1]) for s in scenarios]))

    def load(scenarios: list[Scenario]) -> float:
        return float(np.mean([np.mean(s.load[:-1] / room) for s in scenarios]))

    assert load(train) == pytest.approx(0.25, abs=0.04)
    assert load(shifted) > 2 * load(train)
    assert mean(shifted, "mem_gbps") > 2 * mean(train, "mem_gbps")
    assert all(s.ambient_c.min() >= 15 and s.ambient_c.max() <= 35 for s in (*train, *held_out))
    assert all(s.ambient_c.min() >= 30 and s.ambient_c.max() <= 45 for s in shifted)
    assert np.mean([len(s.t_s) for s in shifted]) > 1.3 * np.mean([len(s.t_s) for s in train])
    # a burst changes the frame rate alone; elsewhere rate and deadline change together
    assert any(bursts(s) for s in shifted) and not any(bursts(s) for s in (*train, *held_out))
    # the same ranges: what is demanded after training was in reach of training
    for column in ("rate_hz", "deadline_s", "energy_budget_j", "accuracy_min", "mem_gbps"):
        seen = np.concatenate([getattr(s, column) for s in train])
        later = np.concatenate([getattr(s, column) for s in held_out])
        assert ((later >= seen.min() * 0.9) & (later <= seen.max() * 1.1)).mean() > 0.97, column


def bursts(s: Scenario) -> bool:
    rows = range(len(s.t_s) - 1)
    return any(s.rate_hz[a] != s.rate_hz[b] and s.deadline_s[a] == s.deadline_s[b] for a, b in pairwise(rows))


def test_held_out_has_its_own_time_structure() -> None:
    def monotone(s: Scenario) -> bool:
        busy = s.load[:-1, s.load.sum(axis=0).argmax()]
        steps = np.diff(busy)
        return len(np.unique(busy)) > 4 and bool((steps >= 0).all() or (steps <= 0).all())

    def comes_back(s: Scenario) -> bool:
        starts = [0, *(i for i in range(1, len(s.t_s) - 1) if s.deadline_s[i] != s.deadline_s[i - 1])]
        return len({s.deadline_s[i] for i in starts}) < len(starts)

    train, held_out = worst_case("train"), worst_case("held_out")
    assert sum(map(monotone, held_out)) > 10 and sum(map(monotone, train)) <= 1
    assert sum(map(comes_back, held_out)) > 10 and not any(map(comes_back, train))


@pytest.mark.parametrize("family", FAMILIES)
def test_xu3_paper_profile(tmp_path: Path, family: str) -> None:
    spec = load_board("xu3").spec
    profile = open_profile(spec, None)
    needed = set()
    for s in scenario_set(family, spec, profile, 30, seed=7):
        save_scenario(s, tmp_path / "s.csv", spec)  # refuses what a file may not hold
        assert len(s.t_s) <= MAX_ROWS
        needed |= {next(r.index for r in profile.rungs if r.accuracy >= f) for f in s.accuracy_min}
    assert needed == {rung.index for rung in profile.rungs}
