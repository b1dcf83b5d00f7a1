"""fit_board.py as a person runs it, on files made of known parameters."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import fit_board
from hw.boardfile import BOARDS, load_board
from hw.catalog import open_board
from hw.errors import InputError
from hw.fitfile import load_fit
from hw.simulated.fit_contention import ContentionModel
from hw.simulated.fit_heat import HeatModel
from hw.simulated.fit_power import PowerModel
from hw.types import Demand, Knobs
from tests.e2e.measuring import (
    FILES,
    MADE,
    gpu,
    power,
    powmon,
    powmon_of_more,
    refused,
    run,
    traces,
    write,
)

SCRIPT = Path(fit_board.__file__)


def own_board(folder: Path, board: str = "raspberry_pi_5") -> Path:
    path = folder / "mine.toml"
    path.write_text((BOARDS / f"{board}.toml").read_text().replace(f'name = "{board}"', 'name = "mine"', 1))
    return path


def test_power_of_a_board_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any board file, every unit of it, a GPU too: judged as it stands, fitted, judged again, flown."""
    path, data = own_board(tmp_path, "jetson_nano"), write(tmp_path / "power.csv", power("jetson_nano"))
    errors = tmp_path / "errors.json"
    run(monkeypatch, "--board", path, "--power", data, "--judge", "--json", errors)
    before = json.loads(errors.read_text())
    run(monkeypatch, "--board", path, "--power", data, "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"mine.toml", "errors.csv", "report.html"}
    fitted, old = load_board(tmp_path / "out/mine.toml"), load_board(path)
    for now, then in zip(fitted.units, old.units, strict=True):
        assert now.background_nf == pytest.approx(1.5 * then.background_nf, rel=1e-3), now.name
        assert (now.cluster_nf, now.leak_a) == pytest.approx((then.cluster_nf, then.leak_a), rel=1e-2)
        assert replace(now, cluster_nf=then.cluster_nf, background_nf=then.background_nf, leak_a=then.leak_a) == then
    assert replace(fitted, units=old.units) == old
    lines = (tmp_path / "out/mine.toml").read_text().splitlines()
    told = [i for i, line in enumerate(lines) if "--board mine.toml --power power.csv --out DIR" in line]
    sha256 = hashlib.sha256(data.read_bytes()).hexdigest()
    assert len(told) == 2 and all(sha256 in lines[i + 1] and "power_mape_worst " in lines[i + 2] for i in told)
    run(monkeypatch, "--board", tmp_path / "out/mine.toml", "--power", data, "--judge", "--json", errors)
    after = json.loads(errors.read_text())
    assert after["power_mape"] < 1e-3 < 0.05 < before["power_mape"] and after["rows"] == len(power("jetson_nano"))
    assert open_board(tmp_path / "out/mine.toml").spec.name == "mine"
    # volts of its own go before those of the board file
    lower = [row | {"volts": "0.8"} for row in power("jetson_nano")]
    run(monkeypatch, "--board", path, "--power", write(tmp_path / "v.csv", lower), "--judge", "--json", errors)
    assert json.loads(errors.read_text())["power_mape"] > before["power_mape"]


def test_a_board_file_of_ones_own_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fitted board file takes the next measurements; the fit file beside it is what it is judged by."""
    runs, heat = write(tmp_path / "runs.csv", powmon()), write(tmp_path / "heat.csv", traces())
    run(monkeypatch, "--board", "xu3", "--powmon", runs, "--out", tmp_path / "a")
    run(monkeypatch, "--board", tmp_path / "a/xu3.toml", "--traces", heat, "--out", tmp_path / "b")
    first, second = load_board(tmp_path / "a/xu3.toml"), load_board(tmp_path / "b/xu3.toml")
    assert second.units == first.units and second.thermal != first.thermal
    found = {}
    for board in ("xu3", tmp_path / "b/xu3.toml"):
        run(monkeypatch, "--board", board, "--powmon", runs, "--judge", "--json", tmp_path / "errors.json")
        found[board] = json.loads((tmp_path / "errors.json").read_text())["power_mape"]
    assert found[tmp_path / "b/xu3.toml"] < found["xu3"]
    assert "would be overwritten" in refused(
        monkeypatch, "--board", tmp_path / "b/xu3.toml", "--traces", heat, "--out", tmp_path / "b"
    )
    (tmp_path / "b/xu3.fit.toml").unlink()
    said = refused(monkeypatch, "--board", tmp_path / "b/xu3.toml", "--powmon", runs, "--judge")
    assert "column 'a15': has no such section; fit one with --powmon" in said


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


def test_a_page_says_what_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How workloads were held back, those that never were included; of a judgement, whose parameters they are."""
    alone = [row for row in gpu() if row["benchmark"] != "MonteCarlo"]  # leaves nbody the one of its class

    def said(folder: str, *words: object) -> str:
        run(monkeypatch, *words, "--out", tmp_path / folder)
        return (tmp_path / folder / "report.html").read_text()

    fitted = said("a", "--board", "jetson_nano", "--gpu", write(tmp_path / "gpu.csv", alone))
    assert (
        "4 rotating folds by workload; each is predicted by a fit that has not seen it; always seen: nbody." in fitted
    )
    shipped = said("b", "--board", "jetson_nano", "--gpu", tmp_path / "gpu.csv", "--judge")
    assert "the parameters in jetson_nano.fit.toml; nothing was fitted" in shipped and "rotating" not in shipped
    words = ("--board", own_board(tmp_path), "--power", write(tmp_path / "power.csv", power()), "--judge")
    assert "the parameters in mine.toml; nothing was fitted" in said("c", *words)


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
    # of one program alone nothing can be held back: the rest is fitted all the same
    one = [cells for cells in powmon_of_more() if cells["Workload Name"] == "w0" or cells["Core Mask"].count(":") == 0]
    run(monkeypatch, "--board", "xu3", "--powmon", write(tmp_path / "one.csv", one), "--out", tmp_path / "one")
    fitted = load_fit(tmp_path / "one/xu3.fit.toml")[1]
    assert fitted["a15"].origin.data == "one.csv" != fitted["contention"].origin.data
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


def test_the_help_names_the_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for column in ("Frequency A15 (MHz)", "Voltage A15", "T_gpu", "sm_active_cycles", "CPU Temperature(C)"):
        assert column in said, column


def test_no_fit_is_taken_for_a_board() -> None:
    with pytest.raises(InputError, match="unknown board"):
        load_board("xu3.fit")
