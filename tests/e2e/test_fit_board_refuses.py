"""Every way a measurement file or a command line of fit_board.py can be wrong: one clear line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.measuring import (
    WRONG,
    Rows,
    powmon,
    refused,
    write,
)

Change = Callable[[Rows], Rows | None]


def times(column: str, factor: float, row: int | None = None) -> Change:
    def change(rows: Rows) -> None:
        for i, cells in enumerate(rows):
            if row is None or i == row:
                cells[column] = f"{float(cells[column]) * factor:.9g}"

    return change


def cell(column: str, text: str) -> Change:
    return lambda rows: rows[2].update({column: text})


def only(column: str, text: str) -> Change:
    return lambda rows: [cells for cells in rows if cells[column] == text]


def without(column: str) -> Change:
    return lambda rows: [{k: v for k, v in cells.items() if k != column} for cells in rows]


@pytest.mark.parametrize(
    ("flag", "change", "told"),
    [
        ("powmon", without("Voltage A15"), ":1, column 'Voltage A15': missing column"),
        ("powmon", times("Frequency A15", 1e3), ":2, column 'Frequency A15', value '200000': looks like kHz; MHz from"),
        ("powmon", times("Frequency A15", 1e6), "column 'Frequency A15', value '200000000': looks like Hz; MHz"),
        ("powmon", times("Frequency A15", 1e-3), "value '0.2': looks like GHz; MHz"),
        ("powmon", times("Power A15", 1e3), "column 'Power A15', value '130.068': looks like mW; W from"),
        ("powmon", times("Voltage A15", 1e3, row=2), ":4, column 'Voltage A15', value '1174': looks like mV; V from"),
        ("powmon", cell("Average Temperature A15", "323.15"), "looks like K; degC from -30 to 150: 50 here"),
        ("powmon", cell("Power A15", "0"), ":4, column 'Power A15', value '0': out of range; W from"),
        ("powmon", cell("Power A15", "nan"), ":4, column 'Power A15', value 'nan': not a finite number"),
        ("powmon", cell("Power A15", "much"), ":4, column 'Power A15', value 'much': not a number"),
        (
            "powmon",
            cell("Average A15 CycleCount", "-1"),
            ":4, column 'Average A15 CycleCount', value '-1': out of range",
        ),
        ("powmon", cell("Workload Name", ""), ":4, column 'Workload Name': is empty"),
        ("powmon", only("Frequency A15", "1000"), "column 'Frequency A15', value '1000': holds a single frequency"),
        ("powmon", only("Workload Name", "w1"), "value 'fp': holds no workload of a class"),
        ("powmon", lambda rows: rows[:3] + rows[3:6] + rows[6:9], "column 'Workload Name', value 0: holds too few"),
        ("traces", without("T_cpu4"), ":1, column 'T_cpu4': missing column"),
        ("traces", times("f_a15_mhz", 1e3), ":2, column 'f_a15_mhz', value '1800000': looks like kHz; MHz"),
        ("traces", times("T_cpu0", 1e3), "column 'T_cpu0'"),
        ("traces", cell("t_s", "0.2"), ":4, column 't_s', value '0.2': time does not rise; samples of a run in"),
        ("traces", times("P_gpu", 10), "column 'P_gpu', value 'mean 0.6"),
        ("traces", only("run", "cBench_1_1800000"), "column 'run': holds no run with the fan full on"),
        ("traces", lambda rows: [*rows[:20], *rows[40:60], *rows[20:40]], "value 'PARSEC_0_1800000': run in pieces"),
        ("traces", lambda rows: rows[:5], ":2, column 'run', value 'PARSEC_0_1800000': run too short"),
        ("traces", only("run", "PARSEC_1_1800000"), "column 'run', value 1: holds too few groups of runs"),
        ("parsec", times("CPU Frequency (MHz)", 1e3), "value '102000': looks like kHz; MHz"),
        ("parsec", times("Voltage[V]", 0.2), "column 'Voltage[V]', value '1.014': out of range; V from 2.6 to 30"),
        ("parsec", only("CPU Frequency (MHz)", "921"), "value '921': holds a single frequency"),
        ("parsec", only("Benchmark", "b1"), "column 'Benchmark', value 1: holds too few workloads"),
        ("power", without("busy"), ":1, column 'busy': missing column"),
        ("power", cell("unit", "a15"), ":4, column 'unit', value 'a15': no such unit; one of a76, as in rasp"),
        ("power", cell("mhz", "4000"), ":4, column 'mhz', value '4000': beyond this clock; MHz from 1000 to 2400"),
        ("power", cell("mhz", "1500000"), ":4, column 'mhz', value '1500000': looks like kHz"),
        ("power", cell("busy", "350"), ":4, column 'busy', value '350': looks like %; cores from 0 to 64: 3.5 here"),
        ("power", cell("busy", "7"), ":4, column 'busy', value '7': too many cores; at most 4, the cores of a76"),
        ("power", cell("watts", "0"), ":4, column 'watts', value '0': out of range"),
        ("power", only("mhz", "2400"), "column 'mhz', value '2400': holds a single value; at least two of a76"),
        ("power", only("busy", "1"), "column 'busy', value '1': holds a single value; at least two of a76, or nothing"),
        ("power", only("workload", "w1"), "column 'busy', value '0.5': holds a single value"),
        ("ncnn", without("min_ms"), ":1, column 'min_ms': missing column"),
        ("ncnn", cell("min_ms", "0"), ":4, column 'min_ms', value '0'"),
        ("ncnn", times("min_ms", 1e-3), "looks like s; ms: 39.1117 here"),
        ("ncnn", times("min_ms", 1e3, row=0), ":2, column 'min_ms', value '39111.7': looks like us; ms: 39.1"),
        ("ncnn", times("min_ms", 1e9, row=0), "out of range; ms: "),
        ("ncnn", lambda rows: [r | {"board": "Amiga"} for r in rows], "column 'board': has no row that tells of rasp"),
        ("ncnn", only("model", "alexnet"), "value 1: has too few networks of Raspberry Pi 5, A76"),
        ("gpu", times("gpu_busy_pct", 10), "column 'gpu_busy_pct', value '200': out of range|looks like permille"),
        ("gpu", only("benchmark", "lavaMD"), "value 'arithmetic': holds no workload of a class"),
        (
            "gpu",
            lambda rows: [r | {"class": "heavy"} for r in rows],
            ":2, column 'class', value 'heavy': no such class",
        ),
    ],
)
def test_a_wrong_file_is_one_clear_line(
    flag: str, change: Change, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, make = WRONG[flag]
    rows = make()
    path = write(tmp_path / "mine.csv", change(rows) or rows)
    said = refused(monkeypatch, "--board", board, f"--{flag}", path, "--out", tmp_path / "out")
    assert said.startswith(str(path)) and any(part in said for part in told.split("|")), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--board", "xu9", "--powmon", "m.csv", "--judge"), "known: xu3, jetson_nano, raspberry_pi_5, or"),
        (("--board", "xu3", "--judge"), "no measurements named; xu3 takes --powmon, --traces, --ncnn, --power"),
        (("--board", "xu3", "--gpu", "m.csv", "--judge"), "--gpu, value 'm.csv': is not for this board; xu3 takes"),
        (("--board", "xu3", "--powmon", "m.csv"), "name a folder with --out, or judge the known one with --judge"),
        (("--board", "xu3", "--powmon", "none.csv", "--judge"), "none.csv: cannot be read: No such file"),
        (("--board", "none.fit.toml", "--powmon", "m.csv", "--judge"), "none.fit.toml: cannot be read"),
        (("--board", "xu3", "--powmon", "m.csv", "--out", "m.csv"), "m.csv: cannot be written"),
        (("--board", "xu3", "--powmon", "m.csv", "--judge", "--out", "/proc/none"), "/proc/none: cannot be written"),
        (
            ("--board", "xu3", "--powmon", "m.csv", "--judge", "--json", "no/such.json"),
            "no/such.json: cannot be written",
        ),
        (
            ("--board", "jetson_nano", "--parsec", "m.csv", "--gpu", "m.csv", "--judge", "--json", "o"),
            "errors of one rail",
        ),
        (("--board", "xu3", "--powmon", "m.csv", "--power", "m.csv", "--out", "o"), "may tell of the same rail"),
        (("--board", "none.toml", "--power", "m.csv", "--judge"), "none.toml: cannot be read"),
        (("--board", "xu3", "--powmon", "m.csv", "--fan", "off"), "--fan"),
    ],
)
def test_wrong_words_are_one_clear_line(
    words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("m.csv"), powmon())
    assert told in refused(monkeypatch, *words)
