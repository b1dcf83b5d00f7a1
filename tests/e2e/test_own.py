"""A controller of one's own, a class in a Python file: compared, flown here and elsewhere, refused in one line."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from agents.policy import make_policy, policy_file
from hw.errors import InputError
from tests.e2e.deploying import ROOT, rows, run
from tests.e2e.refusing import refused, run_inside

MINE = """
from __future__ import annotations

from dataclasses import dataclass, field, replace

from agents.baselines.heuristics import Ladder


@dataclass
class Mine(Ladder):
    slow: bool = False

    def act(self, telemetry, demand):
        knobs = super().act(telemetry, demand)
        return replace(knobs, rung=1) if self.slow else knobs


class Rung9(Mine):
    def act(self, telemetry, demand):
        return replace(super().act(telemetry, demand), rung=9)


class Needs(Mine):
    def __init__(self, what):
        super().__init__()


class Fails(Mine):
    def act(self, telemetry, demand):
        raise ValueError("no idea")


class Silent(Mine):
    def act(self, telemetry, demand):
        pass


class Stuck(Mine):
    def reset(self, spec, profile):
        self.first = [][0]


class Deaf:
    def reset(self, spec, profile):
        pass
"""
SCENARIO = (
    "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
    "0,6,0.2,0.8,0.3,min_energy,0,1,0,25\n6,6,0.2,0.8,0.3,min_energy,0,1,0,25\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "short.csv").write_text(SCENARIO)
    return tmp_path


def test_it_is_compared_with_all_others(folder: Path) -> None:
    words = ("--board", "xu3", "--scenarios", "short.csv", "--seeds", 1, "--telemetry", "--out", "out")
    done = run_inside(folder, "compare.py", "--controllers", "mine.py:Mine", "all", *words)
    assert done.returncode == 0, done.stderr
    found = {row.pop("controller"): row for row in rows(folder / "out/results.csv")}
    assert found["mine.py:Mine"] == found["ladder"] and {"oracle", "schedutil@auto"} <= found.keys()
    assert "> mine.py:Mine" in done.stdout and "mine.py:Mine uses" in done.stdout
    assert "<tr class=marked><td>mine.py:Mine</td>" in (folder / "out/report.html").read_text()
    record = json.loads((folder / "out/run.json").read_text())
    assert record["controllers"] == {"mine.py:Mine": hashlib.sha256(MINE.encode()).hexdigest()}
    assert (folder / "out/telemetry/mine.py_Mine-short-0.csv").is_file()


def test_the_one_in_the_readme_flies(tmp_path: Path) -> None:
    found = re.search(r"```python\n([^`]*class Steady[^`]*)```", (ROOT / "README.md").read_text())
    assert found is not None
    (tmp_path / "mine.py").write_text(found[1])
    done = run("--policy", "mine.py:Steady", "--board", "jetson_nano", "--intervals", 2, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "mine.py:Steady on jetson_nano (sim)" in done.stdout


def test_what_it_asks_for_is_examined(folder: Path) -> None:
    words = ("--board", "xu3", "--scenarios", "short.csv", "--seeds", 1, "--out", "out")
    done = run_inside(folder, "compare.py", "--controllers", "mine.py:Rung9", *words)
    refused(done, "controller mine.py:Rung9, scenario short: rung 9: this ladder has rungs 1 to 4")


def test_the_fallback_flies_on_where_it_asks_for_what_cannot_be(folder: Path) -> None:
    words = ("--policy", "mine.py:Rung9", "--board", "xu3", "--fallback", "ladder", "--intervals", 2)
    done = run(*words, cwd=folder)
    said = "after 0 intervals: the policy asks for what cannot be: rung 9: this ladder has rungs 1 to 4; ladder takes"
    assert (done.returncode, done.stderr) == (0, f"{said} over\n")


def test_a_shadow_that_asks_for_what_cannot_be_is_missing(folder: Path) -> None:
    words = ("--policy", "mine.py:Rung9", "--board", "xu3", "--shadow", "--intervals", 3, "--telemetry", "t.csv")
    done = run(*words, cwd=folder)
    said = "after 0 intervals: the policy asks for what cannot be: rung 9: this ladder has rungs 1 to 4; what it would"
    assert (done.returncode, done.stderr) == (0, f"{said} do is missing then\n"), "said once"
    flown = rows(folder / "t.csv")
    assert len(flown) == 3
    assert {row[key] for row in flown for key in row if key.startswith("asked_")} == {""}
    assert {row["granted_unit"] for row in flown} == {"a15"} and done.stdout.count(" | - -> rung ") == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Fails", "mine.py:30: Fails.act() failed: ValueError: no idea"),
        ("Silent", "mine.py, value 'NoneType': Silent.act() gave no knobs; hw.types.Knobs"),
        ("Stuck", "mine.py:40: Stuck.reset() failed: IndexError: list index out of range"),
    ],
)
def test_where_it_fails(folder: Path, name: str, said: str) -> None:
    words = ("--board", "xu3", "--scenarios", "short.csv", "--seeds", 1, "--jobs", 2, "--out", "out")
    refused(run_inside(folder, "compare.py", "--controllers", f"mine.py:{name}", *words), said)
    done = run("--policy", f"mine.py:{name}", "--board", "xu3", "--intervals", 1, cwd=folder)
    assert done.returncode in (2, 3) and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.py", "/mine.py: no such controller in it; FILE.py:CLASS with one of Fails, Mine, Needs, Rung9"),
        ("mine.py:Deaf", "/mine.py, value 'Deaf': no such controller in it; FILE.py:CLASS with one of Fails, Mine"),
        ("mine.py:os", "/mine.py, value 'os': no such controller in it"),
        ("mine.py:Needs", r"/mine.py: Needs\(\) failed: TypeError: .* missing 1 required positional argument: 'what'"),
        ("none.py:Mine", "/none.py: cannot be read: No such file"),
        ("empty.py:Mine", "/empty.py, value 'Mine': no such controller in it; one has methods reset and act"),
        ("words.py:Mine", "/words.py:2: cannot be run: SyntaxError: "),
        ("lacks.py:Mine", "/lacks.py:1: cannot be run: ModuleNotFoundError: No module named 'nowhere'"),
        ("leaves.py:Mine", "/leaves.py:3: cannot be run: SystemExit: 0"),
    ],
)
def test_what_is_no_controller(folder: Path, name: str, text: str) -> None:
    for other, code in (
        ("empty", ""),
        ("words", "# mine\nthese are words\n"),
        ("lacks", "import nowhere\n"),
        ("leaves", "import sys\n\nsys.exit(0)\n"),
    ):
        (folder / f"{other}.py").write_text(code)
    with pytest.raises(InputError, match=text) as caught:
        make_policy(f"{folder}/{name}")
    assert "\n" not in str(caught.value)


def test_the_file_in_a_name() -> None:
    assert [policy_file(n) for n in ("ladder", "schedutil@1", "a/b.npz", "a:b.py:C", "x.py")] == [
        *(None, None),
        *("a/b.npz", "a:b.py", "x.py"),
    ]
