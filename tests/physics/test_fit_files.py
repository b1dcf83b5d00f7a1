"""What ships of the fits: the files, and how well they do on real boards, as docs/FIDELITY.md says.

The measurements of real boards lie beside a developer's checkout, not in it; without them those tests are skipped.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from experiments._fit_boardfile import board_files
from experiments._fit_heat import HeatResult
from experiments._fit_rail import A15, RailResult
from experiments._fit_result import Fitted
from experiments._fit_target import TASKS, shipped_files
from hw.boardfile import BOARDS, board_names, load_board
from hw.errors import InputError
from hw.fitfile import SECTIONS, Model, Origin, Section, fit_boards, fit_text, load_fit
from hw.simulated import fit_contention, fit_heat, fit_power, physics
from hw.simulated.fit import ape, folds
from hw.simulated.fit_unit import UnitPower

MEASURED = Path(__file__).resolve().parents[3] / "shared/data/boards"
FILES = {
    "powmon": MEASURED / "xu3_powmon.csv",
    "traces": MEASURED / "xu3_sensor_traces.csv",
    "parsec": MEASURED / "nano_a57_parsec.csv",
    "gpu": MEASURED / "tx1_gpu_dvfs.csv",
    "ncnn": MEASURED / "ncnn_benchmark_boards.csv",
}


def real(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"the measurements {path.name} are not beside this checkout")
    return path


def quiet(_done: int, _of: int) -> None:
    pass


def only(fitted: list[Fitted]) -> Fitted:
    (part,) = fitted
    return part


@functools.cache
def fit(board: str, flag: str) -> list[Fitted]:
    """All that the command fits to one of these files; it takes seconds."""
    return [part for task in TASKS[board][flag] for part in task.fit(real(FILES[flag]), quiet)]


def test_the_shipped_fits_read_back_as_written() -> None:
    assert fit_boards() == sorted(SECTIONS)
    assert not any("fit" in name for name in board_names())  # a fit is no board
    for name in fit_boards():
        board, sections = load_fit(name)
        assert board == name and set(sections) == set(SECTIONS[name])
        assert (BOARDS / f"{name}.fit.toml").read_text() == fit_text(name, sections)
        for section in sections.values():
            assert section.origin.source != "not stated" and section.origin.held_back


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("cluster_nf =", "clutser_nf =", r"'clutser_nf'.*unknown key in \[a15\]"),
        ("leak_a =", 'leak_a = "much" #', r"'leak_a', value 'much': not a number"),
        ("rows = 1476", "rows = 1.5", r"'rows', value 1\.5: not a whole number"),
        ("leak_a =", "#", r"'leak_a': missing key in \[a15\]"),
        ("leak_a =", "leak_a = nan #", r"'leak_a', value nan: not a number"),
        ('board = "xu3"', 'board = "xu9"', r"'board', value 'xu9'"),
        ("[heat]", "[warmth]", r"'warmth'.*unknown key"),
        ("power_p95_ape", "power_p99_ape", r"'power_p99_ape'.*unknown key"),
        ('data = "', 'data = 3 # "', r"'data', value 3: not a text"),
        ("volts = [", "volts = 0.9 # [", r"'volts', value 0\.9: not a list in \[volts\]; numbers in brackets"),
        ("volts = [", 'volts = ["high", ', r"'volts', value 'high': not a number"),
        ("volts = [", "volts = [0.9, ", r"\[volts\], mhz and volts are no table; rising frequencies, and as many"),
        ("mhz = [200, 400", "mhz = [400, 200", r"\[volts\], mhz and volts are no table"),
        ("[heat]", "[heat", r"not a TOML file"),
        ('board = "xu3"', "board = " + "[" * 20000, r"not a TOML file: nested too deeply"),
        ('board = "xu3"', "board = 0x" + "f" * 5000, r"not a TOML file: Exceeds the limit"),
    ],
)
def test_a_wrong_fit_file_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = fit_text(*load_fit("xu3"))
    assert old in text
    path = tmp_path / "mine.fit.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=told) as error:
        load_fit(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_xu3_power_on_workloads_not_seen() -> None:
    data = A15.read(real(FILES["powmon"]))
    part = fit("xu3", "powmon")[0]
    result, off = part.result, part.errors
    assert isinstance(result, RailResult)
    assert off["power_mape"] < 0.03 and off["power_mape_worst"] < 0.06
    assert off["class_power_mape"] < 0.09 and off["class_power_mape_worst"] < 0.12
    # half of them unseen: what is left still carries the model
    names = data.texts["Workload Name"]
    for held in folds(names, 2):
        blind = fit_power.fit_power(data, ~held)
        assert ape(fit_power.by_counters(data, blind), data["Power A15"])[held].mean() < 0.06
    assert {g.value for g in result.groups if g.by == "class"} == set(fit_power.CLASSES)


def test_contention_is_the_least_wrong_law_within_the_bounds() -> None:
    """The power is given to the fit; left free, the same rule takes that one."""
    beside = fit_contention.beside_copies(fit_power.read_power(real(FILES["powmon"])))
    every = np.ones(len(beside), bool)
    off: dict[float, float] = {}
    for power in np.arange(0.5, 1.0001, 0.005).round(3):
        model = fit_contention.fit_contention(beside, every, float(power))
        errors = ape(fit_contention.slow_down(beside, model), beside.slower)
        bounds = np.array([fit_contention.WANTED.get(name, np.inf) for name in beside.names])
        if (errors <= bounds)[beside.mhz == beside.mhz.max()].all():
            off[float(power)] = float(errors.mean())
    assert len(off) > 3 and min(off, key=lambda power: off[power]) == physics.STALL_POWER
    assert set(fit_contention.WANTED) <= set(beside.names)


def test_xu3_heat_on_runs_not_seen() -> None:
    part = only(fit("xu3", "traces"))
    result, off = part.result, part.errors
    assert isinstance(result, HeatResult)
    runs = result.runs
    assert len(runs) == 18 and len(result.aside) == 12
    assert off["temp_rmse_k"] < 1.0
    assert np.median(result.per_run_k) < 1.0


def test_nano_power_on_programs_not_seen() -> None:
    off = only(fit("jetson_nano", "parsec")).errors
    assert off["power_mape"] < 0.08 and off["power_mape_worst"] < 0.10
    assert off["class_power_mape"] < 0.17


def test_gpu_power_on_programs_not_seen() -> None:
    part = only(fit("jetson_nano", "gpu"))
    assert part.errors["power_mape"] < 0.11 and part.errors["class_power_mape"] < 0.15
    assert part.result.summary["class_power_mape"] < 0.15
    assert "nbody" in part.split


@pytest.mark.parametrize("board", SECTIONS)
def test_the_shipped_board_files_are_those_of_their_fit(board: str) -> None:
    """Byte by byte: `fit_board.py` on what `<board>.fit.toml` says writes the files that ship."""
    for name, (text, _) in board_files(shipped_files(board), load_fit(board)[1]).items():
        assert text == (BOARDS / f"{name}.toml").read_text(), name


@pytest.mark.parametrize("board", board_names())
def test_every_board_that_ships_comes_out_of_the_command(board: str) -> None:
    assert any(board in board_files(shipped_files(fitted), {}) for fitted in SECTIONS)


@pytest.mark.parametrize("name", ['"little-cpu"', '"little.1"', "'the little one'"])
def test_what_is_fitted_goes_to_the_unit_of_that_name(tmp_path: Path, name: str) -> None:
    """Whatever the name of the one before it, and though a clock has the same."""
    path, old = tmp_path / "mine.toml", load_board("xu3")
    path.write_text(old.path.read_text().partition("[real]")[0].replace('"a7"\nclock', f"{name}\nclock"))
    origin = Origin(command="", data="", source="", sha256="", rows=1, split="", held_back={})
    for k, unit in enumerate(("a15", name[1:-1])):
        power = UnitPower(cluster_nf=0.1, background_nf=0.2, leak_a=0.3)
        text, why = board_files({"mine": path}, {f"power_{unit}": Section(model=power, origin=origin)})["mine"]
        assert text is not None, why
        (tmp_path / "out.toml").write_text(text)
        fitted = load_board(tmp_path / "out.toml").units
        assert (fitted[1 - k].cluster_nf, fitted[1 - k].background_nf, fitted[1 - k].leak_a) == (0.1, 0.2, 0.3)
        assert replace(fitted[k], name=old.units[k].name) == old.units[k]


def flat(model: Model) -> dict[str, float]:
    """The numbers of a model by name, those of lists one by one."""
    lists = {k: v if isinstance(v, tuple) else (v,) for k, v in asdict(model).items()}
    return {f"{k}[{i}]": x for k, values in lists.items() for i, x in enumerate(values)}


@pytest.mark.parametrize(("board", "flag"), [(board, flag) for board, tasks in TASKS.items() for flag in tasks])
def test_the_shipped_parameters_are_those_of_the_command(board: str, flag: str) -> None:
    shipped = load_fit(board)[1]
    for part in fit(board, flag):
        known = shipped[part.section]
        assert flat(part.model) == pytest.approx(flat(known.model), rel=1e-4), part.section
        assert part.errors == pytest.approx(known.origin.held_back, rel=1e-3), part.section
        assert known.origin.sha256 == hashlib.sha256(FILES[flag].read_bytes()).hexdigest()
        assert f"--board {board} --{flag} {FILES[flag].name}" in known.origin.command


def test_volts_of_a_trace_are_the_board_file_s() -> None:
    clock = load_board("xu3").spec.clock("a15")
    runs, _ = fit_heat.read_runs(real(FILES["traces"]), clock)
    assert runs[0].clock[0] == pytest.approx(0.944**2)
