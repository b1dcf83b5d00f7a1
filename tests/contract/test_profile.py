"""Profiles are read exactly or refused with one clear line; the one that ships is what the papers say."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments._profile_lint import validate
from experiments.make_paper_profile import TABLE, build_profile
from hw.boardfile import load_board
from hw.errors import InputError
from hw.profile import load_profile, open_profile, pareto_front, profile_path, save_profile
from hw.profiletable import columns, grid
from hw.types import BoardSpec, Clock, OperatingPoint, Profile, Rung, Unit

SPEC = BoardSpec(
    name="bench",
    clocks=(
        Clock(name="cpu", freqs_hz=(5e8, 1e9), volts=(0.9, 1.0)),
        Clock(name="gpu", freqs_hz=(3e8,), volts=(0.9,)),
    ),
    units=(
        Unit(name="cpu", clock="cpu", cores=2, big=True),
        Unit(name="gpu", clock="gpu", cores=1, kind="gpu"),
    ),
    rails=("cpu", "gpu"),
    thermal_nodes=("soc",),
)


def make_profile(rng: np.random.Generator, kind: str = "modelled") -> Profile:
    points = []
    for rung, unit, cores, freq_hz in grid(SPEC, 2):
        mean, power, other = rng.uniform(1e-3, 1.0, 3).tolist()
        rails = {"cpu": power, "gpu": other} if unit == "cpu" else {"cpu": other, "gpu": power}
        points.append(
            OperatingPoint(
                rung=rung,
                unit=unit,
                cores=cores,
                freq_hz=freq_hz,
                latency_mean_s=mean,
                latency_std_s=mean / 7,
                latency_p95_s=mean * 1.3,
                power_w=power,
                rail_power_w=rails,
                samples=0 if kind == "modelled" else 30,
            )
        )
    return Profile(
        name="trial",
        board="bench",
        kind=kind,  # type: ignore[arg-type]
        rungs=(
            Rung(index=1, name="half", accuracy=0.5, macs=1e6, bytes=4e6),
            Rung(index=2, name="all", accuracy=0.75),
        ),
        points=tuple(points),
        provenance={
            **({"ladder": "bench-net"} if kind == "measured" else {}),
            "how": 'quotes " and \\ back\nslashes, ä, \x7f',
            "when": "2026-11-21",
            "sensor_rate_hz": 0.0 if kind == "modelled" else 28.4,
            "accuracy_source": ("test set", "test set"),
        },
    )


@pytest.mark.parametrize("kind", ["modelled", "measured"])
def test_round_trip_is_exact(tmp_path: Path, kind: str) -> None:
    profile, path = make_profile(np.random.default_rng(1), kind), tmp_path / "bench-trial.csv"
    save_profile(profile, path)
    loaded = load_profile(path, SPEC)
    assert loaded == replace(profile, checksum=hashlib.sha256(path.read_bytes()).hexdigest())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench-trial.csv", "bench-trial.toml"]


def test_order_of_rows_and_columns_does_not_matter(tmp_path: Path) -> None:
    profile, path = make_profile(np.random.default_rng(2)), tmp_path / "p.csv"
    save_profile(profile, path)
    table = [row[::-1] for row in csv.reader(io.StringIO(path.read_text()))]
    edit(path, lambda _: "\n".join(",".join(row) for row in [table[0], *table[:0:-1]]) + "\n", sign=True)
    assert load_profile(path, SPEC).points == profile.points


def edit(path: Path, change: Callable[[str], str], *, sign: bool = False) -> None:
    """Change the text of a file, and with `sign` the checksum that the sidecar holds."""
    old = path.read_bytes()
    text = change(old.decode())
    assert text.encode() != old, "the edit changed nothing"
    path.write_text(text, encoding="utf-8")
    if sign:
        sidecar = path.with_suffix(".toml")
        was, now = (hashlib.sha256(data).hexdigest() for data in (old, text.encode()))
        sidecar.write_text(sidecar.read_text(encoding="utf-8").replace(was, now), encoding="utf-8")


def cell(column: str, value: str, row: int = 1) -> Callable[[str], str]:
    def change(text: str) -> str:
        table = list(csv.reader(io.StringIO(text)))
        table[row][table[0].index(column)] = value
        return "\n".join(",".join(r) for r in table) + "\n"

    return change


def drop_column(text: str, name: str) -> str:
    table = list(csv.reader(io.StringIO(text)))
    at = table[0].index(name)
    return "\n".join(",".join(r[:at] + r[at + 1 :]) for r in table) + "\n"


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


BAD_CSV: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "missing column": (lambda t: drop_column(t, "power_w"), (":1", "missing column", "'power_w'")),
    "missing rail": (lambda t: drop_column(t, "power_gpu_w"), (":1", "missing column", "'power_gpu_w'")),
    "unknown column": (lambda t: t.replace("samples", "sample"), (":1", "unknown column", "'sample'")),
    "duplicate column": (lambda t: t.replace("samples", "unit"), (":1", "duplicate column", "'unit'")),
    "ragged row": (lambda t: t.replace("\n1,cpu", "\n1,1,cpu", 1), (":2", "cells")),
    "empty": (lambda t: "\n", ("is empty",)),
    "no rows": (lambda t: lines(t)[0], ("no rows",)),
    "not a number": (cell("latency_mean_s", "fast"), (":2", "'latency_mean_s'", "'fast'", "not a number")),
    "empty cell": (cell("power_w", "", 3), (":4", "'power_w'", "not a number")),
    "underscore": (cell("power_w", "1_0"), (":2", "'power_w'", "not a number")),
    "nan": (cell("power_w", "nan", 2), (":3", "'power_w'", "'nan'", "not a finite number")),
    "inf": (cell("latency_p95_s", "inf"), (":2", "'latency_p95_s'", "not a finite number")),
    "negative latency": (cell("latency_mean_s", "-0.1"), (":2", "'latency_mean_s'", "'-0.1'", "too low")),
    "zero latency": (cell("latency_mean_s", "0"), (":2", "'latency_mean_s'", "too low", "from 1e-06 to 10000")),
    "endless latency": (cell("latency_mean_s", "1e39"), (":2", "'latency_mean_s'", "too high", "from 1e-06 to 10000")),
    "no latency": (cell("latency_mean_s", "1e-300"), (":2", "'latency_mean_s'", "too low")),
    "endless p95": (cell("latency_p95_s", "1e39"), (":2", "'latency_p95_s'", "too high")),
    "p95 in ms": (cell("latency_p95_s", "200"), (":2", "'latency_p95_s'", "times the mean; at most")),
    "wide deviation": (cell("latency_std_s", "1e3"), (":2", "'latency_std_s'", "times the mean; at most")),
    "endless deviation": (cell("latency_std_s", "1e39"), (":2", "'latency_std_s'", "too high")),
    "endless power": (cell("power_w", "1e39"), (":2", "'power_w'", "too high", "from 0 to 1000")),
    "rail in mW": (cell("power_gpu_w", "1100", 2), (":3", "'power_gpu_w'", "too high")),
    "another rail": (cell("power_w", "2.5"), (":2", "'power_w'", "'2.5'", "of another rail; power_cpu_w, the unit's")),
    "negative deviation": (cell("latency_std_s", "-1e-9"), (":2", "'latency_std_s'", "too low")),
    "p95 below mean": (cell("latency_p95_s", "1e-6"), (":2", "'latency_p95_s'", "below the mean")),
    "negative power": (cell("power_w", "-1"), (":2", "'power_w'", "too low")),
    "negative rail": (cell("power_gpu_w", "-1", 2), (":3", "'power_gpu_w'", "too low")),
    "unknown unit": (cell("unit", "npu"), (":2", "'npu'", "unknown unit", "cpu, gpu")),
    "cores": (cell("cores", "3"), (":2", "'cores'", "'3'", "from 1 to 2")),
    "no cores": (cell("cores", "0"), (":2", "'cores'", "too low")),
    "half a core": (cell("cores", "1.5"), (":2", "'cores'", "not a whole number")),
    "kHz": (cell("freq_hz", "500000"), (":2", "'freq_hz'", "'cpu'", "in Hz, one of 5e+08, 1e+09")),
    "rung": (cell("rung", "3"), (":2", "'rung'", "unknown rung", "rungs 1 to 2")),
    "rung 0": (cell("rung", "0"), (":2", "'rung'", "unknown rung")),
    "duplicate": (lambda t: t + lines(t)[2], (":12", "duplicate point", "freq_hz 1000000000", "line 3")),
    "missing": (
        lambda t: "".join(lines(t)[:4] + lines(t)[5:]),
        ("missing point", "rung 1, unit cpu, cores 2, freq_hz 1000000000", "1 of 10"),
    ),
    "negative samples": (cell("samples", "-1"), (":2", "'samples'", "too low")),
    "samples of a model": (cell("samples", "5"), (":2", "'samples'", "modelled")),
    "checksum": (lambda t: t + "\n", ("checksum mismatch",)),
    "quote": (lambda t: t + '"', (":12", "not a CSV file")),
    "NUL": (lambda t: t + "\0", (":12", "NUL")),
}


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_profile(path, SPEC)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("what", BAD_CSV)
def test_bad_rows_are_refused(tmp_path: Path, what: str) -> None:
    change, expected = BAD_CSV[what]
    path = tmp_path / "bad.csv"
    save_profile(make_profile(np.random.default_rng(3)), path)
    edit(path, change)
    text = refusal(path)
    assert text.startswith(str(path))
    for part in expected:
        assert part in text


BAD_SIDECAR: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "malformed": (lambda t: t.replace("board =", "board"), ("not a TOML file",)),
    "nested": (lambda t: "board = " + "[" * 20000 + t, ("not a TOML file: nested too deeply",)),
    "digits": (lambda t: f"ladder = {'9' * 5000}\n" + t, ("not a TOML file: Exceeds the limit",)),
    "missing key": (lambda t: t.replace('when = "2026-11-21"\n', ""), ("missing key", "'when'")),
    "unknown key": (lambda t: "who = 1\n" + t, ("unknown key", "'who'")),
    "board": (lambda t: t.replace('"bench"', '"xu3"'), ("another board", "'xu3'", "'bench'")),
    "kind": (lambda t: t.replace('"modelled"', '"guessed"'), ("unknown kind", "'guessed'")),
    "kind against samples": (lambda t: t.replace('"modelled"', '"measured"'), ("samples", "measured")),
    "checksum": (lambda t: t.replace('checksum = "', 'checksum = "x'), ("not a checksum",)),
    "rate": (lambda t: t.replace("sensor_rate_hz = 0.0", "sensor_rate_hz = nan"), ("'sensor_rate_hz'",)),
    "ladder": (lambda t: "ladder = 3\n" + t, ("'ladder'", "not a text")),
    "text": (lambda t: t.replace('when = "2026-11-21"', "when = 2026"), ("'when'", "not a text")),
    "accuracy": (lambda t: t.replace("0.75", "75.0"), ("of rung 2", "'accuracy'", "75.0", "from 0 to 1")),
    "huge": (lambda t: t.replace("0.75", "9" * 400), ("of rung 2", "'accuracy'")),
    "bool": (lambda t: t.replace("0.75", "true"), ("of rung 2", "'accuracy'")),
    "rung key": (lambda t: t.replace("macs = 0.0", "mac = 0.0"), ("unknown key of rung 2", "'mac'")),
    "no rungs": (lambda t: t[: t.index("[[rungs]]")] + "rungs = []\n", ("no rungs",)),
}


@pytest.mark.parametrize("what", BAD_SIDECAR)
def test_bad_sidecars_are_refused(tmp_path: Path, what: str) -> None:
    change, expected = BAD_SIDECAR[what]
    path = tmp_path / "bad.csv"
    save_profile(make_profile(np.random.default_rng(3)), path)
    edit(path.with_suffix(".toml"), change)
    text = refusal(path)
    assert "bad." in text
    for part in expected:
        assert part in text


def test_a_sidecar_that_names_no_board_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("rung\n")
    for text, told in (
        ("board = " + "[" * 20000, "not a TOML file: nested too deeply"),
        ("board = 3", "does not say which board it is of"),
        ('\ufeffboard = "xu9"', "unknown board 'xu9'"),
    ):
        path.with_suffix(".toml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=told):
            validate(path, None)


def test_measured_needs_samples(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    save_profile(make_profile(np.random.default_rng(3), "measured"), path)
    edit(path, cell("samples", "0", 4))
    text = refusal(path)
    assert ":5" in text and "at least 1 where kind is 'measured'" in text


def test_one_frame_may_have_taken_nearly_all_the_time(tmp_path: Path) -> None:
    """Of n frames a deviation of sqrt(n) means can be, and a file that says it was measured is read."""
    profile, path = make_profile(np.random.default_rng(3), "measured"), tmp_path / "p.csv"
    points = tuple(replace(p, samples=900, latency_std_s=float(f"{30 * p.latency_mean_s:.6g}")) for p in profile.points)
    save_profile(replace(profile, points=points), path)
    assert load_profile(path, SPEC).points == points
    edit(path, cell("samples", "90"), sign=True)
    assert "'latency_std_s'" in refusal(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    assert "cannot be read" in refusal(path)
    save_profile(make_profile(np.random.default_rng(3)), path)
    path.with_suffix(".toml").unlink()
    assert "bad.toml: missing" in refusal(path)
    assert "name its .csv" in refusal(tmp_path / "bad.toml")
    path.write_bytes(b"\xff\xfe")
    path.with_suffix(".toml").write_bytes(b"a = 1\nb = '\xff'")
    text = refusal(path)
    assert "bad.toml:2" in text and "UTF-8" in text


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    profile = make_profile(np.random.default_rng(4))
    with pytest.raises(InputError, match=r"no-such/p\.csv: cannot be written"):
        save_profile(profile, tmp_path / "no-such" / "p.csv")
    with pytest.raises(InputError, match=r"ends in \.csv"):
        save_profile(profile, tmp_path / "p.txt")
    (tmp_path / "p.toml").mkdir()  # the second of the two files cannot be written
    with pytest.raises(InputError, match=r"p\.toml: cannot be written"):
        save_profile(profile, tmp_path / "p.csv")
    with pytest.raises(InputError, match="'how'"):
        save_profile(replace(profile, provenance={}), tmp_path / "q.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["p.toml"]


def test_open_profile_by_name_default_and_path() -> None:
    spec = load_board("xu3").spec
    paper = open_profile(spec, "paper")
    assert open_profile(spec, None) == open_profile(spec, load_board("xu3").default_profile) != paper
    assert open_profile(spec, profile_path("xu3", "paper")) == paper
    assert open_profile(spec, str(profile_path("xu3", "paper"))) == paper
    with pytest.raises(InputError, match=r"unknown profile 'papers' of board xu3; known: .*paper"):
        open_profile(spec, "papers")


def test_pareto_front() -> None:
    points = make_profile(np.random.default_rng(5)).points
    front = pareto_front(points + points)
    beaten = {
        i
        for i, p in enumerate(points)
        for q in points
        if (q.latency_mean_s < p.latency_mean_s and q.energy_j <= p.energy_j)
        or (q.latency_mean_s <= p.latency_mean_s and q.energy_j < p.energy_j)
    }
    assert front == sorted((p for i, p in enumerate(points) if i not in beaten), key=lambda p: p.latency_mean_s)
    assert pareto_front([]) == []


# ---- the profile that ships ----

Times = dict[tuple[int, str, float], OperatingPoint]


@pytest.fixture(scope="module")
def paper() -> Profile:
    return open_profile(load_board("xu3").spec, "paper")


@pytest.fixture(scope="module")
def one_core(paper: Profile) -> Times:
    """One core, at the papers' own levels: A15 0.2-1.8 GHz, A7 0.2-1.3 GHz."""
    top = {"a15": 1.8e9, "a7": 1.3e9}
    return {(p.rung, p.unit, p.freq_hz): p for p in paper.points if p.cores == 1 and p.freq_hz <= top[p.unit]}


def test_the_shipped_profile_is_what_the_script_builds(paper: Profile, tmp_path: Path) -> None:
    model = load_board("xu3")
    built = build_profile(model)
    assert (paper.kind, len(paper.points), len(paper.rungs)) == ("modelled", 512, 4)
    assert [(p.rung, p.unit, p.cores, p.freq_hz) for p in paper.points] == grid(model.spec, 4)
    assert paper.provenance == built.provenance and paper.rungs == built.rungs
    assert set(paper.provenance["accuracy_source"]) == {"recalled"}  # type: ignore[call-overload]
    save_profile(built, tmp_path / "xu3-paper.csv")
    for suffix in (".csv", ".toml"):
        assert (tmp_path / f"xu3-paper{suffix}").read_text() == profile_path("xu3", "paper").with_suffix(
            suffix
        ).read_text()
    assert lines((tmp_path / "xu3-paper.csv").read_text())[0].strip().split(",") == list(columns(model.spec.rails))


@pytest.mark.parametrize(("unit", "ghz"), [(u, f) for u, rows in TABLE.items() for f in rows])
def test_the_six_rows_of_the_table(one_core: Times, unit: str, ghz: float) -> None:
    point = one_core[4, unit, round(ghz * 1e9)]
    time_s, power_w, energy_j = TABLE[unit][ghz]
    assert point.latency_mean_s == pytest.approx(time_s, rel=0.05)
    assert point.power_w == pytest.approx(power_w, rel=0.05)
    assert point.energy_j == pytest.approx(energy_j, rel=0.05)


def test_the_four_headline_ranges(one_core: Times) -> None:
    fastest, slowest = (pick(one_core.values(), key=lambda p: p.latency_mean_s) for pick in (min, max))
    thriftiest, dearest = (pick(one_core.values(), key=lambda p: p.energy_j) for pick in (min, max))
    assert (slowest.rung, slowest.unit, slowest.freq_hz) == (4, "a7", 2e8)
    assert (fastest.rung, fastest.unit, fastest.freq_hz) == (1, "a15", 1.8e9)
    assert (dearest.rung, dearest.unit) == (4, "a15")
    assert (thriftiest.rung, thriftiest.unit) == (1, "a7")
    rungs_time = one_core[4, "a15", 1.8e9].latency_mean_s / one_core[1, "a15", 1.8e9].latency_mean_s
    rungs_energy = one_core[4, "a7", 7e8].energy_j / one_core[1, "a7", 7e8].energy_j
    assert rungs_time == pytest.approx(2.73, rel=0.03)
    assert rungs_energy == pytest.approx(2.36, rel=0.03)
    assert slowest.latency_mean_s / fastest.latency_mean_s == pytest.approx(41.6, rel=0.03)
    assert dearest.energy_j / thriftiest.energy_j == pytest.approx(10.6, rel=0.05)
    assert one_core[4, "a15", 2e8].energy_j / one_core[1, "a7", 7e8].energy_j == pytest.approx(10.6, rel=0.03)


def test_the_laws_are_monotone(paper: Profile) -> None:
    points = {(p.rung, p.unit, p.cores, p.freq_hz): p for p in paper.points}
    spec = load_board("xu3").spec
    for (rung, unit, cores, freq_hz), p in points.items():
        freqs = spec.clock(unit).freqs_hz
        if freq_hz != freqs[-1]:
            faster = points[rung, unit, cores, freqs[freqs.index(freq_hz) + 1]]
            assert faster.latency_mean_s < p.latency_mean_s and faster.power_w > p.power_w
        if cores > 1:
            fewer = points[rung, unit, cores - 1, freq_hz]
            assert fewer.latency_mean_s > p.latency_mean_s and fewer.power_w < p.power_w
        if rung > 1:
            smaller = points[rung - 1, unit, cores, freq_hz]
            assert smaller.latency_mean_s < p.latency_mean_s and smaller.energy_j < p.energy_j
