"""The commands as a person runs them: in an empty folder, by subprocess."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hw.boardfile import load_board
from hw.catalog import open_board
from hw.profile import profile_path
from tests.e2e.refusing import refused, run_inside
from tests.processes import until

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
# of DESIGN, written out: a renamed field must not rename a column unseen
COLUMNS = (
    "controller,scenario,seed,intervals,frames,miss_rate,accuracy_mean,accuracy_breach_rate,energy_j,"
    "energy_per_frame_j,latency_mean_s,latency_p95_s,temp_max_c,throttled_share,switches,reward_mean,regret"
)
SCENARIO = (
    "t_s,rate_hz,deadline_s,accuracy_min,energy_budget_j,goal,load_a7,load_a15,mem_gbps,ambient_c\n"
    "0,5,0.2,0.6,0.3,min_energy,0,1.5,0.5,25\n"
    "4,8,0.15,0.5,0.3,max_accuracy,1,0,0,25\n"
    "8,8,0.15,0.5,0.3,max_accuracy,0,0,0,25\n"
)

ENERGIES = ("energy_budget_j", "energy_error_j")  # columns of telemetry that are no rail's
Done = subprocess.CompletedProcess[str]


def command(script: str, *words: object) -> list[str]:
    return [sys.executable, str(EXPERIMENTS / script), *(str(w) for w in words)]


def run(cwd: Path, script: str, *words: object) -> Done:
    return subprocess.run(command(script, *words), cwd=cwd, capture_output=True, text=True, timeout=300)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A run folder of a short training, named by default, and what the command said."""
    cwd = tmp_path_factory.mktemp("train")
    done = run(cwd, "train_agent.py", "--board", "xu3", "--steps", 8192, "--eval-seeds", 1)
    folders = list((cwd / "runs").iterdir()) if (cwd / "runs").is_dir() else []
    assert done.returncode == 0 and len(folders) == 1, done.stderr
    return folders[0], done


def test_train_leaves_a_complete_run_folder(trained: tuple[Path, Done]) -> None:
    folder, done = trained
    assert folder.name.endswith("-xu3-ppo")
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "done" and record["steps"] == 8192
    assert record["profile"] == {
        "name": load_board("xu3").default_profile,
        "kind": "modelled",
        "checksum": record["profile"]["checksum"],
        "accuracy": [r.accuracy for r in open_board("xu3").profile.rungs],
    }
    assert record["config"]["learning"]["steps"] == 8192 and record["seeds"]["training"] == 0
    assert {"python", "numpy", "torch", "gymnasium", "stable_baselines3"} <= record["versions"].keys()
    assert (folder / "results.csv").read_text().splitlines()[0] == COLUMNS
    page = (folder / "report.html").read_text()
    assert "All figures modelled" in page and "data:image/png;base64," in page and "<tr class=marked>" in page
    rows = read_csv(folder / "results.csv")
    assert {"ppo", "oracle", "static_best", "schedutil@auto", "performance@4"} <= {r["controller"] for r in rows}
    assert all(float(r["regret"]) == 0 for r in rows if r["controller"] == "oracle")
    assert "> ppo" in done.stdout and "kind modelled" in done.stdout and "energy per frame" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in line) <= 100
    assert str(folder.name) in done.stdout


def test_tensorboard_holds_terms_misses_and_energy(trained: tuple[Path, Done]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"reward/{t}" for t in ("energy", "deadline", "accuracy", "switching", "heat")} <= tags
    assert any(t.endswith("miss_rate") for t in tags) and any(t.endswith("energy_per_frame_j") for t in tags)


def test_compare_same_rows_twice_and_in_one_process(trained: tuple[Path, Done], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(SCENARIO)
    policy = trained[0] / "policy.npz"
    words: list[object] = ["--board", "xu3", "--scenarios", "mine.csv", "--seeds", 2, "--telemetry"]
    words += ("--controllers", policy, "schedutil@auto", "static_safe")
    for out, jobs in (("a", 2), ("b", 1)):
        done = run(tmp_path, "compare.py", *words, "--jobs", jobs, "--out", out)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a/results.csv").read_bytes() == (tmp_path / "b/results.csv").read_bytes()
    assert (tmp_path / "a/results.csv").read_text().splitlines()[0] == COLUMNS
    rows = read_csv(tmp_path / "a/results.csv")
    assert [(r["controller"], r["seed"]) for r in rows] == [
        (c, s) for c in (str(policy), "schedutil@auto", "static_safe") for s in ("0", "1")
    ]
    for row in rows:
        assert row["scenario"] == "mine" and row["intervals"] == "16" and 48 <= int(row["frames"]) <= 53
        assert float(row["energy_per_frame_j"]) == pytest.approx(float(row["energy_j"]) / int(row["frames"]))
    files = sorted((tmp_path / "a/telemetry").glob("static_safe-mine-*.csv"))
    assert len(files) == 2
    flown = read_csv(files[0])
    energy_j = sum(float(r[k]) for r in flown for k in r if k.startswith("energy_") and k not in ENERGIES)
    assert energy_j == pytest.approx(float(rows[4]["energy_j"]))
    again = run(tmp_path, "compare.py", *words[:-4], "--controllers", "static_safe", "--out", "a")
    assert again.returncode == 0, again.stderr  # a comparison may be repeated in its folder


LIGHT = """
import runpy, sys
heavy = {"torch", "gymnasium", "stable_baselines3", "sb3_contrib", "tyro", "pandas", "rich", "joblib"}
script, sys.argv = sys.argv[1], sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as leaving:
    assert not leaving.code, leaving.code
assert not heavy & sys.modules.keys(), sorted(heavy & sys.modules.keys())
"""


def test_deploy_is_light_and_records_every_interval(trained: tuple[Path, Done], tmp_path: Path) -> None:
    words = command("deploy_policy.py", "--policy", trained[0] / "policy.npz", "--board", "xu3")
    words += ["--backend", "sim", "--intervals", "7", "--telemetry", "t.csv"]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(" | missed " in line for line in lines) == 7
    rows = read_csv(tmp_path / "t.csv")
    assert [float(r["t_s"]) for r in rows] == [0.5 * k for k in range(1, 8)]
    assert {"rate_hz", "asked_rung", "granted_a15_hz", "energy_a15_j", "throttled"} <= rows[0].keys()
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_deploy_stops_at_the_end_of_the_scenario(trained: tuple[Path, Done], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(SCENARIO)
    words = ("--policy", trained[0] / "policy.npz", "--board", "xu3", "--scenario", "mine.csv")
    done = run(tmp_path, "deploy_policy.py", *words, "--intervals", 1000, "--telemetry", "t.csv")
    assert done.returncode == 0, done.stderr
    assert len(read_csv(tmp_path / "t.csv")) == 16


def test_a_reader_that_leaves_ends_no_flight(trained: tuple[Path, Done], tmp_path: Path) -> None:
    words = command("deploy_policy.py", "--policy", trained[0] / "policy.npz", "--board", "xu3")
    words += ["--intervals", "60", "--telemetry", "t.csv"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as flying:
        assert flying.stdout is not None and flying.stderr is not None
        flying.stdout.readline()
        flying.stdout.close()
        assert flying.stderr.read() == ""
    assert flying.returncode == 0
    assert len(read_csv(tmp_path / "t.csv")) == 60


def test_ctrl_c_in_flight_keeps_the_telemetry(trained: tuple[Path, Done], tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(edit(SCENARIO, 4, "t_s", "1e6"))
    words = command("deploy_policy.py", "--policy", trained[0] / "policy.npz", "--board", "xu3")
    words += ["--scenario", "long.csv", "--telemetry", "t.csv"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as flying:
        assert flying.stdout is not None
        for _ in range(20):
            flying.stdout.readline()
        flying.send_signal(signal.SIGINT)
        _, said = flying.communicate(timeout=180)
    rows = read_csv(tmp_path / "t.csv")
    assert flying.returncode == 130 and len(rows) >= 19
    assert said.splitlines() == [
        f"interrupted after {len(rows)} intervals; telemetry of {len(rows)} intervals in t.csv"
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.csv", "t.csv"]


def test_ctrl_c_in_training_saves_and_says_where(tmp_path: Path) -> None:
    words = command("train_agent.py", "--board", "xu3", "--algo", "dqn", "--out", "out", "--steps", 10**9)
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        until(lambda: lines_in(tmp_path / "out/tensorboard/progress.csv") >= 2, 400.0, training)
        training.send_signal(signal.SIGINT)
        _, said = training.communicate(timeout=180)
    assert training.returncode == 130, said
    assert "interrupted after" in said and "out/policy.npz" in said and "Traceback" not in said
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "interrupted"
    done = run(tmp_path, "deploy_policy.py", "--policy", "out/policy.npz", "--board", "xu3", "--intervals", 2)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_in_a_comparison_ends_every_process(tmp_path: Path) -> None:
    words = command("compare.py", "--board", "xu3", "--out", "out", "--seeds", 500, "--jobs", 2, "--telemetry")
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as comparing:
        until(lambda: any(tmp_path.glob("out/telemetry/*.csv")), 400.0, comparing)
        os.killpg(comparing.pid, signal.SIGINT)  # as a terminal does: to the whole group
        shown, said = comparing.communicate(timeout=180)
    assert comparing.returncode == 130 and shown == ""
    assert said.splitlines()[-1] == "interrupted" and "Traceback" not in said
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "out/results.csv").exists()


def lines_in(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def edit(text: str, line: int, column: str, value: str) -> str:
    """The CSV with one cell changed; line 1 is the header."""
    lines = text.splitlines()
    cells = lines[line - 1].split(",")
    cells[lines[0].split(",").index(column)] = value
    lines[line - 1] = ",".join(cells)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (edit(SCENARIO, 3, "rate_hz", "nan"), ("s.csv:3", "'rate_hz'", "'nan'")),
        (edit(SCENARIO, 3, "t_s", "9"), ("s.csv:4", "'t_s'", "'8'", "unsorted")),
        (edit(SCENARIO, 1, "goal", "aim"), ("s.csv:1", "'aim'", "unknown column")),
        (edit(SCENARIO, 2, "load_a15", "4.5"), ("s.csv:2", "'load_a15'", "'4.5'", "4")),
        (
            SCENARIO.replace(",ambient_c", "").replace(",25\n", "\n"),
            ("s.csv:1", "'ambient_c'", "missing column"),
        ),
    ],
    ids=["nan", "unsorted", "unknown column", "load beyond cores", "missing column"],
)
def test_bad_scenarios(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "s.csv").write_text(text)
    refused(run_inside(tmp_path, "compare.py", "--board", "xu3", "--scenarios", "s.csv", "--out", "out"), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize("fault", ["negative", "duplicate", "missing"])
def test_bad_profiles(tmp_path: Path, fault: str) -> None:
    ours = profile_path("xu3", "paper")
    shutil.copy(ours.with_suffix(".toml"), tmp_path / "p.toml")
    lines = ours.read_text().splitlines(keepends=True)
    words: tuple[str, ...] = ("p.csv", "missing point")
    if fault == "negative":
        lines = [edit("".join(lines), 7, "latency_mean_s", "-0.1")]
        words = ("p.csv:7", "'latency_mean_s'", "'-0.1'")
    elif fault == "duplicate":
        lines.insert(9, lines[4])
        words = ("p.csv:10", "duplicate point", "line 5")
    else:
        del lines[20]
    (tmp_path / "p.csv").write_text("".join(lines))
    refused(run_inside(tmp_path, "compare.py", "--board", "xu3", "--profile", "p.csv", "--out", "out"), *words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.csv", "p.toml"]


@pytest.mark.parametrize("fault", ["truncated", "tampered", "pickle", "no file"])
def test_bad_policies(trained: tuple[Path, Done], tmp_path: Path, fault: str) -> None:
    file = tmp_path / "p.npz"
    data = (trained[0] / "policy.npz").read_bytes()
    words = "p.npz"
    if fault == "truncated":
        file.write_bytes(data[: len(data) // 2])
    elif fault == "tampered":
        arrays = dict(np.load(trained[0] / "policy.npz", allow_pickle=False))
        arrays["w0"][0, 0] += 1
        np.savez(file, **arrays)
        words = "checksum"
    elif fault == "pickle":
        np.savez(file, header=np.array([{"a": 1}], dtype=object))
        words = "pickle"
    left = [p.name for p in tmp_path.iterdir()]
    fly = ("--policy", "p.npz", "--board", "xu3", "--telemetry", "t.csv")
    refused(run_inside(tmp_path, "deploy_policy.py", *fly), "p.npz", words)
    refused(run_inside(tmp_path, "compare.py", "--board", "xu3", "--controllers", "p.npz", "--out", "out"), words)
    assert [p.name for p in tmp_path.iterdir()] == left


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train_agent.py", "--board nope --out out", ("unknown board 'nope'", "xu3")),
        ("train_agent.py", "--board xu3 --algo sarsa --out out", ("'sarsa'", "maskable_ppo")),
        ("train_agent.py", "--board xu3 --steps 0 --out out", ("--steps", "0", "at least 1")),
        ("train_agent.py", "--board xu3 --steps 3.5 --out out", ("--steps, value '3.5': not a whole number;",)),
        ("train_agent.py", "--board xu3 --seed 4294967296 --out out", ("seed", "4294967296", "to 4294967295")),
        ("train_agent.py", "--board xu3 --seed -1 --out out", ("seed", "-1", "from 0")),
        ("train_agent.py", "--board xu3 --profile nope --out out", ("'nope'", "paper")),
        ("train_agent.py", "--board xu3 --out file", ("file", "not a folder")),
        ("compare.py", "--board xu3 --out file/below", ("file", "not a folder")),
        ("compare.py", "--board xu3 --out out --bogus", ("--bogus",)),
        ("compare.py", "--board xu3 --out out --controllers schedutil@9", ("schedutil@9", "rung")),
        ("compare.py", "--board xu3 --out out --controllers nope", ("'nope'", "oracle")),
        ("deploy_policy.py", "--policy ladder --board xu3 --backend real", ("measured profile", "profile_board.py")),
        ("deploy_policy.py", "--policy ladder --board host --backend real", ("host.toml", "profile_board.py")),
        ("deploy_policy.py", "--policy ladder --board xu3 --shadow --fallback ladder", ("--fallback", "--shadow")),
        ("deploy_policy.py", "--policy ladder --board xu3 --fallback nope", ("'nope'", "schedutil")),
        ("deploy_policy.py", "--policy ladder --board xu3 --root file", ("backend 'emulated'",)),
        ("deploy_policy.py", "--policy ladder --board xu3 --remote=-oX=y", ("-oX=y", "USER@HOST")),
        ("deploy_policy.py", "--policy ladder --board xu3 --telemetry file/t.csv", ("file/t.csv",)),
        (
            "deploy_policy.py",
            "--policy ladder --board xu3 --scenario file --telemetry file",
            ("what --scenario reads",),
        ),
        ("deploy_policy.py", "--policy ladder", ("--board",)),
        ("make_paper_profile.py", "--board raspberry_pi_5", ("no rows of the papers", "jetson_nano_5w")),
    ],
)
def test_bad_arguments(tmp_path: Path, script: str, arguments: str, words: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("in the way\n")
    refused(run_inside(tmp_path, script, *arguments.split()), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--bogus", "Unrecognized options: --bogus;"),
        ("--seeds 3.5", "--seeds, value '3.5': not a whole number;"),
        ("--backend none", "'none'"),
    ],
)
def test_bad_arguments_where_only_ascii_is_shown(tmp_path: Path, words: str, said: str) -> None:
    """Tyro has another layout then."""
    arguments = ("--board", "xu3", "--out", "out", *words.split())
    for encoding in ("utf-8", "ascii"):
        refused(run_inside(tmp_path, "compare.py", *arguments, encoding=encoding), said)


def test_a_run_is_never_overwritten(trained: tuple[Path, Done]) -> None:
    folder = trained[0]
    before = (folder / "run.json").read_bytes()
    for script in ("train_agent.py", "compare.py"):
        refused(run(folder, script, "--board", "xu3", "--out", folder), "already holds a run")
    assert (folder / "run.json").read_bytes() == before


def test_a_record_that_is_no_text_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_bytes(b"\xff\xfe{}")
    done = run_inside(tmp_path, "compare.py", "--board", "xu3", "--controllers", "ladder", "--out", "out")
    refused(done, "already holds a run of another program")
