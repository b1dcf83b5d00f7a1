"""The same flights in the simulator and on a board that is not simulated: how far apart, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from experiments._gap import gaps, print_gaps
from experiments._jobs import telemetry_names
from tests.e2e.rows import row

COMPARE = Path(__file__).resolve().parents[2] / "experiments" / "compare.py"
SCENARIO = (
    "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
    "0,4,0.25,0.6,0.5,min_energy,0,0,0,25\n"
    "2,8,0.2,0.6,0.5,min_energy,1,1,0.2,25\n"
    "4,8,0.2,0.6,0.5,min_energy,1,1,0.2,25\n"
)


def compare(cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(COMPARE), "--board", "xu3", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_gaps_are_shares_of_times_and_differences_of_rates() -> None:
    simulated = [row(), row(scenario="two", latency_mean_s=0.15)]
    machine = [row(latency_mean_s=0.06, miss_rate=0.05), row(scenario="two", latency_mean_s=0.16, miss_rate=0.03)]
    found = {g.metric: g for g in gaps(simulated, machine)}
    assert found["latency_mean_s"].gap == pytest.approx(0.11 / 0.10 - 1)
    assert found["latency_mean_s"].low == pytest.approx(0.16 / 0.15 - 1)
    assert found["latency_mean_s"].high == pytest.approx(0.2)
    assert found["miss_rate"].gap == pytest.approx(0.02)
    assert found["energy_per_frame_j"].gap == found["energy_per_frame_j"].high == 0.0


def test_seeds_of_one_scenario_are_no_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    """However many there are, they say nothing of others: no interval."""
    simulated = [row(seed=seed) for seed in range(5)]
    machine = [row(seed=seed, latency_mean_s=0.06 + 0.01 * seed) for seed in range(5)]
    found = gaps(simulated, machine)
    assert all(math.isnan(g.low) and math.isnan(g.high) and math.isfinite(g.gap) for g in found)
    print_gaps(found)
    assert "nan" not in capsys.readouterr().out


def test_what_is_missing_has_no_gap() -> None:
    simulated, machine = [row(), row(seed=1)], [row(energy_per_frame_j=math.nan), row(seed=1)]
    found = {g.metric: g for g in gaps(simulated, machine)}
    assert found["energy_per_frame_j"].flights == 1
    assert "temp_max_c" not in {g.metric for g in gaps([row(temp_max_c=math.nan)], [row()])}


def test_an_emulated_board_has_next_to_no_gap(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text(SCENARIO)
    words = ("--backend", "emulated", "--gap", "--controllers", "ladder", "--scenarios", "short.csv", "--seeds", 1)
    done = compare(tmp_path, *words, "--telemetry", "--out", "out")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "gap.csv").open(newline="") as stream:
        found = {line["metric"]: float(line["gap"]) for line in csv.DictReader(stream)}
    assert abs(found["energy_per_frame_j"]) < 0.03
    assert found["miss_rate"] == 0.0
    assert "mean latency ms" in done.stdout
    with (tmp_path / "out" / "results.csv").open(newline="") as stream:
        assert [line["controller"] for line in csv.DictReader(stream)] == ["ladder"]
    # a file of each flight, on either
    told = {path.name: path.read_text() for path in (tmp_path / "out/telemetry").iterdir()}
    assert told.keys() == {"ladder-short-0.csv", "ladder-sim-short-0.csv"}
    assert len(set(told.values())) == 2


def test_no_two_flights_have_one_file() -> None:
    flights = [("runs/a/p.npz", "one"), ("runs_a/p.npz", "one"), ("a-b", "c"), ("a", "b-c"), ("runs/a/p.npz", "two")]
    found = telemetry_names(flights)
    assert found == ["runs_a_p.npz-one", "runs_a_p.npz-2-one", "a-b-c", "a-2-b-c", "runs_a_p.npz-two"]


OUTPUTS = ("results.csv", "report.html", "gap.csv", "telemetry/ladder-short-0.csv")


@pytest.mark.parametrize("script", ["compare.py", None])
def test_nothing_of_an_earlier_run_is_left(tmp_path: Path, script: str | None) -> None:
    """Beside the record of a run stands what that run found; a folder without a record is somebody's."""
    (tmp_path / "short.csv").write_text(SCENARIO)
    (tmp_path / "out" / "telemetry").mkdir(parents=True)
    for name in (*OUTPUTS, "notes.txt"):
        (tmp_path / "out" / name).write_text("old\n")
    if script is not None:
        (tmp_path / "out" / "run.json").write_text(json.dumps({"script": script}))
    words = ("--controllers", "ladder", "--scenarios", "short.csv", "--seeds", 1, "--jobs", 1, "--out", "out")
    refused = compare(tmp_path, *words, "--profile", "nope")
    assert refused.returncode == 2
    assert all((tmp_path / "out" / name).read_text() == "old\n" for name in OUTPUTS)
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    left = [name for name in (*OUTPUTS, "notes.txt") if (tmp_path / "out" / name).exists()]
    assert left == (["results.csv", "report.html", "notes.txt"] if script else [*OUTPUTS, "notes.txt"])
    assert (tmp_path / "out" / "results.csv").read_text() != "old\n"


def test_a_file_in_the_way_of_telemetry_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text(SCENARIO)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/telemetry").touch()
    words = ("--controllers", "ladder", "--scenarios", "short.csv", "--seeds", 1, "--telemetry", "--out", "out")
    done = compare(tmp_path, *words)
    assert done.returncode == 2 and "out/telemetry: cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    (
        (("--gap",), "--gap: is between the simulator and a machine"),
        (("--backend", "emulated"), "--controllers, value 'all': too many for a board that is not simulated"),
        (("--backend", "emulated", "--controllers", "ladder", "--vary"), "--vary: only a simulated board varies"),
        (("--backend", "emulated", "--controllers", "oracle"), "value 'oracle': looks into the simulator"),
        (("--backend", "real", "--controllers", "ladder"), "a real board flies by a measured profile"),
    ),
)
def test_refusals(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = compare(tmp_path, *words, "--out", "out")
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "results.csv").exists()
    assert "--vary" not in words or not (tmp_path / "out").exists()
