"""fit_board.py as a person runs it: files made here of known parameters, and every way such a file can be wrong."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import fit_board
from experiments._ncnn_timings import NETWORKS
from hw.boardfile import BOARDS, load_board
from hw.catalog import open_board
from hw.errors import InputError
from hw.fitfile import load_fit
from hw.simulated.fit_contention import ContentionModel
from hw.simulated.fit_heat import HeatModel
from hw.simulated.fit_power import PowerModel
from hw.types import Demand, Knobs

SCRIPT = Path(fit_board.__file__)
Rows = list[dict[str, str]]
EVENTS = ("CycleCount", *(f"Event {code}" for code in ("0x1b", "0x73", "0x14", "0x50", "0x6a", "0x19")))


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def powmon() -> Rows:
    """Nine workloads, three of a class, at three clocks; power as the documented law gives it."""
    rows = []
    for i, (ipc, integer) in enumerate([(0.2, 0.3), (1.0, 0.6), (1.0, 0.2)] * 3):
        for mhz, volts in ((200, 0.916), (1000, 0.944), (1800, 1.174)):
            rate = mhz * 1e6 * (0.2 + 0.08 * i)
            nf = {0: 0.22, 1: 0.35, 2: 0.43}[i % 3]
            temp = 45 + 2 * i + mhz / 100
            watts = volts**2 * (0.17 * mhz / 1e3 + nf * 4 * rate / 1e9) + 0.11 * volts * np.exp(4 * (volts - 1))
            events = (rate, ipc * rate, integer * ipc * rate, 0.1 * rate, 0.01 * rate, 1e-3 * rate, 0.02 * rate)
            head = {"Workload Name": f"w{i}", "Core Mask": "4,5,6,7:4,5,6,7", "Frequency A15": f"{mhz}"}
            head |= {"Voltage A15": f"{volts}", "Power A15": f"{watts:.6f}", "Average Temperature A15": f"{temp}"}
            rows.append(head | {f"Average A15 {e}": f"{x:.0f}" for e, x in zip(EVENTS, events, strict=True)})
            rows[-1]["a column of my own"] = "ignored"
    return rows


def powmon_of_more() -> Rows:
    """The same with the rails beside, and of every workload a copy alone and three: 1.0, 1.2 and 1.4 times as long."""
    rows = []
    for i, cells in enumerate(powmon()):
        for copies in (1, 2, 3):
            rate = float(cells["Frequency A15"]) * 1e6 * copies / 4
            gbps = rate * (0.002 * (i % 9)) * 64 / 1e9
            row = cells | {"Core Mask": ":".join(["4,5,6,7"] * copies), "Average A15 CycleCount": f"{rate:.0f}"}
            stalls = 0.2 + float(cells["Frequency A15"]) / 1800  # cycles an instruction
            row["Average A15 Event 0x1b"] = f"{rate / stalls / (0.8 + 0.2 * copies):.0f}"
            row["Average A15 Event 0x19"] = f"{gbps * 1e9 / 64:.0f}"
            row["Power Memory"] = f"{0.03 + 0.07 * gbps:.5f}"
            row["Power GPU"] = f"{0.1 * np.exp(0.01 * (float(cells['Average Temperature A15']) - 50)):.5f}"
            rows.append(row)
    return rows


def traces(runs: int = 5) -> Rows:
    """Runs that end warmer than they began: 5 K/W in a second and 3 K/W in 30 s, and a fan of its own at the end."""
    rng = np.random.default_rng(0)
    rows: Rows = []
    for name in [*(f"PARSEC_{i}_1800000" for i in range(runs)), "cBench_1_1800000"]:
        fast, slow = 5.0, 3.0
        for i in range(40):
            big = 1.0 + (i // 8) % 3
            fast += (5.0 * big - fast) * 0.4
            slow += (3.0 * big - slow) * 0.017
            row = {"run": name, "t_s": f"{0.51 * i:.2f}", "f_a15_mhz": "1800", "P_a15": f"{big}", "P_a7": "0.12"}
            row |= {"P_gpu": f"{0.066 + 0.004 * rng.random():.4f}", "P_mem": "0.03", "T_gpu": "40"}
            rows.append(row | {"T_cpu0": f"{38 + fast + slow + rng.random():.1f}", "T_cpu4": "36"})
    return rows


def parsec() -> Rows:
    rows = []
    for i in range(4):
        for mhz in (102, 921, 1479):
            watts = 0.2 + 0.4 * mhz / 1e3 + 0.05 * i
            row = {"Benchmark": f"b{i}", "CPU Frequency (MHz)": f"{mhz}", "CPU Temperature(C)": "36"}
            rows.append(row | {"Voltage[V]": f"{5.07 - 0.01 * i}", "Power[W]": f"{watts:.3f}"})
    return rows


def gpu() -> Rows:
    rows = []
    for i, name in enumerate(("nbody", "MonteCarlo", "cfd", "heartwall", "lavaMD", "myocyte")):
        for mhz, volts in ((76, 0.82), (921, 1.02)):
            for share in (0.2, 0.9):
                watts = 0.24 * volts + volts**2 * mhz / 1e3 * (2.2 + (10.0, 10.0, 4.0, 4.0, 2.4, 2.4)[i] * share)
                row = {"benchmark": name, "f_mhz": f"{mhz}", "V": f"{volts}", "P_w": f"{watts:.4f}"}
                row |= {"gpu_busy_pct": f"{100 * share}", "sm_active_cycles": f"{200 * share}"}
                traffic = (0, 0, 15, 20, 0.5, 0.5)[i] * 1e3 * share * mhz / 1e3
                rows.append(row | {"l2_read_bytes": f"{traffic}", "l2_write_bytes": "0"})
    return rows


def ncnn() -> Rows:
    """Timings of six networks on a Pi, some twice and slower, with rows that are none of its own."""
    rows = []
    for name in ("resnet18", "vgg16", "mobilenet", "squeezenet", "alexnet", "googlenet"):
        work = NETWORKS[name]
        for cores in (1, 4):
            seconds = (0.04 * work.macs + work.activation_bytes) / 2.4e9 * (0.3 + 0.7 / cores)
            seconds += work.weight_bytes / 10e9 + 4000.0 * work.layers / 2.4e9
            row = {"board": "Raspberry Pi 5 (Cortex-A76)", "num_threads": f"{cores}", "gpu_device": "-1"}
            rows += [row | {"model": name, "min_ms": f"{1e3 * seconds * slow:.6f}"} for slow in (1.0, 1.5)]
            rows.append(row | {"model": f"{name}_int8", "min_ms": "1"})
            rows.append(row | {"model": name, "gpu_device": "0", "min_ms": "1"})
    return rows


MADE: dict[str, tuple[str, Callable[[], Rows]]] = {
    "powmon": ("xu3", powmon),
    "traces": ("xu3", traces),
    "parsec": ("jetson_nano", parsec),
    "gpu": ("jetson_nano", gpu),
    "ncnn": ("raspberry_pi_5", ncnn),
}
FILES = {"jetson_nano": {"jetson_nano.toml", "jetson_nano_5w.toml"}}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fit_board.py", *map(str, words)])
    fit_board.main()


def refused(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    with pytest.raises(InputError) as error:
        run(monkeypatch, *words)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("flag", MADE)
def test_fits_judges_and_writes(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board, make = MADE[flag]
    path, out = write(tmp_path / "mine & <yours>.csv", make()), tmp_path / "a/b"
    run(monkeypatch, "--board", board, f"--{flag}", path, "--out", out)
    wanted = {f"{board}.fit.toml", "errors.csv", "report.html"}
    assert {p.name for p in out.iterdir()} == wanted | FILES.get(board, {f"{board}.toml"})
    page = (out / "report.html").read_text()
    assert page.count("<img ") == {"traces": 1, "ncnn": 1, "powmon": 3}.get(flag, 2) and "<yours>" not in page
    name, sections = load_fit(out / f"{board}.fit.toml")
    assert name == board
    mine = [s for s in sections.values() if s.origin.data == path.name]
    assert len(mine) == (2 if flag == "powmon" else 1)  # with the cores' volts
    assert all(s.origin.source == "not stated" and str(tmp_path) not in s.origin.command for s in mine)
    assert str(tmp_path) not in page
    # and what was written judges the file it is from
    errors = tmp_path / "errors.json"
    run(monkeypatch, "--board", out / f"{board}.fit.toml", f"--{flag}", path, "--judge", "--json", errors)
    found = json.loads(errors.read_text())
    keys = ["power_mape", "class_power_mape", "power_p95_ape", "temp_rmse_k"]
    assert list(found) == [*keys, *({"ncnn": ["latency_mape"], "powmon": ["volts_mape"]}.get(flag, [])), "rows"]
    if flag == "ncnn":
        assert found["latency_mape"] < 1e-3 and found["rows"] == 12 and found["power_mape"] is None
    elif flag == "traces":
        assert found["temp_rmse_k"] < 2.0 and found["power_mape"] is None and found["rows"] == 200
        assert "Left aside: 1 run" in capsys.readouterr().out
    else:
        assert found["power_mape"] < 0.08 and found["temp_rmse_k"] is None and found["rows"] == len(make())


def test_runs_with_more_columns_and_copies_tell_of_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory, an idle GPU and contention come out of the same file, where it has them."""
    few, more = write(tmp_path / "few.csv", powmon()), write(tmp_path / "more.csv", powmon_of_more())
    run(monkeypatch, "--board", "xu3", "--powmon", more, "--out", tmp_path)
    board, sections = load_board(tmp_path / "xu3.toml"), load_fit(tmp_path / "xu3.fit.toml")[1]
    names = {"a15", "volts", "mem", "idle_gpu", "contention"}
    assert {name for name, s in sections.items() if s.origin.data == more.name} == names
    rails = {rail.name: rail for rail in board.rails}
    assert (rails["mem"].base_w, rails["mem"].w_per_gbps) == pytest.approx((0.03, 0.07), rel=1e-3)
    assert (rails["gpu"].base_w, rails["gpu"].per_k) == pytest.approx((0.1, 0.01), rel=1e-3)
    contention = sections["contention"].model
    assert isinstance(contention, ContentionModel) and contention.stall_stretch == board.contention.stall_stretch > 0.1
    a15 = next(unit for unit in board.units if unit.name == "a15")
    assert a15.mem_ceiling_gbps == pytest.approx(contention.ceiling_gbps, rel=1e-5)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 6 and "Slow-down of one of several copies" in page
    # judged: each error by its own key, rows of the file once
    errors = tmp_path / "errors.json"
    run(monkeypatch, "--board", tmp_path / "xu3.fit.toml", "--powmon", more, "--judge", "--json", errors)
    found = json.loads(errors.read_text())
    assert found["rows"] == len(powmon_of_more()) and found["mem_mape"] < 1e-3 and found["idle_gpu_mape"] < 1e-3
    assert 0.0 < found["contention_mape"] < 0.2
    # a fit of a file without them is judged by what it has, and says nothing of them
    capsys.readouterr()
    text = (tmp_path / "xu3.fit.toml").read_text()
    old = tmp_path / "old.fit.toml"
    old.write_text(text[: text.index("[volts]")])
    run(monkeypatch, "--board", old, "--powmon", more, "--judge", "--json", errors)
    assert "mem_mape" not in json.loads(errors.read_text()) and "Memory rail" not in capsys.readouterr().out
    run(monkeypatch, "--board", "xu3", "--powmon", few, "--judge", "--json", errors)
    assert "contention_mape" not in json.loads(errors.read_text())
    busy = [cells | {"Power GPU": "1.5", "Power Memory": "0"} for cells in powmon_of_more()]
    run(monkeypatch, "--board", "xu3", "--powmon", write(tmp_path / "busy.csv", busy), "--judge", "--json", errors)
    assert set(json.loads(errors.read_text())) & {"mem_mape", "idle_gpu_mape", "contention_mape"} == {"contention_mape"}


def test_a_fit_is_a_board_that_flies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted values stand in the shipped file's place with command, checksum and errors; all else stays as it was."""
    power, heat = write(tmp_path / "power.csv", powmon()), write(tmp_path / "heat.csv", traces())
    run(monkeypatch, "--board", "xu3", "--powmon", power, "--traces", heat, "--out", tmp_path)
    path, sections = tmp_path / "xu3.toml", load_fit(tmp_path / "xu3.fit.toml")[1]
    fitted, shipped = load_board(path), load_board("xu3")
    a15, path_k = sections["a15"].model, sections["heat"].model
    assert isinstance(a15, PowerModel) and isinstance(path_k, HeatModel)
    unit = next(u for u in fitted.units if u.name == "a15")
    assert (unit.cluster_nf, unit.leak_a, unit.leak_per_v) == (a15.cluster_nf, a15.leak_a, a15.leak_per_v)
    assert (unit.background_nf, unit.leak_activation_k) == (a15.class_integer_nf, a15.leak_activation_k)
    full = fitted.thermal.fan_full
    assert full.r_k_per_w == [path_k.fast_k_per_w, path_k.slow_k_per_w] and full.spot_k_per_w == path_k.core_k_per_w
    assert full.tau_s == [path_k.fast_s, path_k.slow_s] and fitted.thermal.spot_nf == path_k.core_nf
    # all else is the board that ships, whose policies it takes
    same = {"cluster_nf", "background_nf", "leak_a", "leak_per_v", "leak_activation_k"}
    old = next(u for u in shipped.units if u.name == "a15")
    assert replace(unit, **{key: getattr(old, key) for key in same}) == old
    cooled = replace(fitted.thermal, fan_full=shipped.thermal.fan_full, spot_nf=shipped.thermal.spot_nf)
    clock, old_clock = fitted.spec.clock("a15"), shipped.spec.clock("a15")
    assert clock.freqs_hz == old_clock.freqs_hz and fitted.spec.hash == shipped.spec.hash
    volts = dict(zip(clock.freqs_hz, clock.volts, strict=True))
    assert (volts[2e8], volts[6e8], volts[1e9], volts[1.8e9]) == (0.916, 0.93, 0.944, 1.174)
    assert volts[2e9] == old_clock.volts[-1]  # nothing was measured there
    assert replace(fitted, spec=shipped.spec, units=shipped.units, thermal=cooled) == shipped
    # comments of changed lines tell where the values are from, those of others are still there
    lines = path.read_text().splitlines()
    for section, times in ((sections["a15"], 2), (sections["heat"], 1)):  # power and volts are of one file
        told = [i for i, line in enumerate(lines) if section.origin.command in line]
        assert len(told) == times
        for i in told:
            assert lines[i].startswith("# ") and section.origin.sha256 in lines[i + 1]
            assert "errors on what was held back: " in lines[i + 2]
    changed_keys = (*same, "volts", "fan_full", "spot_unit", "spot_nf")
    kept = [line for line in load_text("xu3") if "#" in line and not line.startswith(("#", *changed_keys))]
    assert kept and all(line in lines for line in kept)
    board = open_board(path)
    knobs = Knobs(rung=1, unit="a15", cores=4, freqs_hz={"a7": 2e8, "a15": 1.8e9})
    demand = Demand(rate_hz=10.0, deadline_s=0.2, accuracy_min=0.0, energy_budget_j=1.0, goal="min_energy")
    board.reset(seed=0)
    assert [board.step(knobs, demand).served for _ in range(3)] == [5, 5, 5]


def load_text(board: str) -> list[str]:
    return (BOARDS / f"{board}.toml").read_text().splitlines()


def test_a_fit_of_ones_own_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an own .fit.toml held already goes into the board file, beside what is fitted now."""
    power, heat = write(tmp_path / "power.csv", powmon()), write(tmp_path / "heat.csv", traces())
    of_power, of_heat = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (power, heat))
    run(monkeypatch, "--board", "xu3", "--powmon", power, "--out", tmp_path / "a")
    text = (tmp_path / "a/xu3.toml").read_text()
    assert of_power in text and of_heat not in text
    run(monkeypatch, "--board", tmp_path / "a/xu3.fit.toml", "--traces", heat, "--out", tmp_path / "b")
    text = (tmp_path / "b/xu3.toml").read_text()
    assert of_power in text and of_heat in text and text.count("SHA-256") == 8  # the others: as shipped
    assert load_board(tmp_path / "b/xu3.toml").units == load_board(tmp_path / "a/xu3.toml").units


def test_what_cannot_be_a_board_is_not_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that cool under load: a fit can be had and looked at, a board with negative resistances cannot."""
    rows = traces()
    for cells in rows:
        cells["T_cpu0"] = f"{100 - float(cells['T_cpu0']):.1f}"
    run(monkeypatch, "--board", "xu3", "--traces", write(tmp_path / "cold.csv", rows), "--out", tmp_path / "out")
    assert "No xu3.toml: xu3.toml, value -" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"xu3.fit.toml", "errors.csv", "report.html"}


def test_the_shipped_board_judges_by_subprocess(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", powmon())
    command = [sys.executable, str(SCRIPT), "--board", "xu3", "--powmon", str(path), "--judge", "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "frequency, MHz" in done.stdout and "copies" in done.stdout and "class" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == 27
    path.write_text("Workload Name\nonly\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "mine.csv:1, column 'Core Mask': missing column" in done.stderr


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
    board, make = MADE[flag]
    rows = make()
    path = write(tmp_path / "mine.csv", change(rows) or rows)
    said = refused(monkeypatch, "--board", board, f"--{flag}", path, "--out", tmp_path / "out")
    assert said.startswith(str(path)) and any(part in said for part in told.split("|")), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--board", "xu9", "--powmon", "m.csv", "--judge"), "known: xu3, jetson_nano, raspberry_pi_5, or"),
        (("--board", "xu3", "--judge"), "no measurements named; xu3 takes --powmon, --traces, --ncnn"),
        (("--board", "xu3", "--gpu", "m.csv", "--judge"), "--gpu, value 'm.csv': is of another board; xu3 takes"),
        (("--board", "xu3", "--powmon", "m.csv"), "name a folder with --out, or judge the shipped one with --judge"),
        (("--board", "xu3", "--powmon", "none.csv", "--judge"), "none.csv: cannot be read: No such file"),
        (("--board", "none.fit.toml", "--powmon", "m.csv", "--judge"), "none.fit.toml: cannot be read"),
        (("--board", "xu3", "--powmon", "m.csv", "--out", "m.csv"), "m.csv: cannot be written"),
        (
            ("--board", "xu3", "--powmon", "m.csv", "--judge", "--json", "no/such.json"),
            "no/such.json: cannot be written",
        ),
        (
            ("--board", "jetson_nano", "--parsec", "m.csv", "--gpu", "m.csv", "--judge", "--json", "o"),
            "errors of one rail",
        ),
        (("--board", "xu3", "--powmon", "m.csv", "--fan", "off"), "--fan"),
    ],
)
def test_wrong_words_are_one_clear_line(
    words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("m.csv"), powmon())
    assert told in refused(monkeypatch, *words)


def test_the_help_names_the_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for column in ("Frequency A15 (MHz)", "Voltage A15", "T_gpu", "sm_active_cycles", "CPU Temperature(C)"):
        assert column in said, column


def test_no_fit_is_taken_for_a_board() -> None:
    with pytest.raises(InputError, match="unknown board"):
        load_board("xu3.fit")
