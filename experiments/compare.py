"""Compares controllers: every one on every scenario with every seed, against a clairvoyant bound.

python experiments/compare.py --board xu3 --out results
python experiments/compare.py --board host --backend real --gap --profile measured/host-measured.csv \\
    --controllers schedutil@auto policy.npz --scenarios mine.csv --seeds 3 --out results
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from agents.policy import policy_file, policy_names
from envs.families import scenario_set
from envs.scenario import load_scenario
from experiments._cli import main_guard, parse
from experiments._evaluate import HELD_OUT, check_controllers, check_scenarios, evaluate
from experiments._gap import gaps, print_gaps, write_gaps
from experiments._jobs import default_jobs
from experiments._metrics import write_results
from experiments._progress import Bar
from experiments._report import write_report
from experiments._run import RECORD, RunFolder, check_folder, make_folder
from experiments._table import print_comparison
from hw.catalog import open_board
from hw.errors import InputError
from hw.files import read_bytes

SCRIPT = "compare.py"
ALL = "all"
OUTPUTS = ("results.csv", "report.html", "gap.csv")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str
    """board: a name, a board's .toml file, or host (this machine)"""
    out: Path
    """folder for results.csv, report.html and run.json; those of an earlier comparison there are replaced"""
    profile: str | None = None
    """profile of the board: a name, a .csv file, or a ladder by name or folder (default: the board's own)"""
    scenarios: tuple[Path, ...] = ()
    """scenario files, see docs/FILES.md (default: eight of the held-out family)"""
    controllers: tuple[str, ...] = (ALL,)
    """controllers by name, all (that have one), saved policies FILE.npz, classes of your own FILE.py:CLASS"""
    seeds: int = 5
    """how many seeds of the board's noise"""
    backend: Literal["sim", "emulated", "real"] = "sim"
    """where controllers fly; name them on a board that is not simulated, and for real a profile measured on it"""
    gap: bool = False
    """fly them in the simulator too, with the same profile, and print how far the two are apart (gap.csv)"""
    jobs: int | None = None
    """processes at a time (default: one per core)"""
    vary: bool = False
    """every seed is another board of the model: voltage, leakage, heat and speed vary"""
    telemetry: bool = False
    """also write telemetry/*.csv, one per flight"""


def main() -> None:
    """Run the command."""
    config = parse(Config, "Compare controllers: a table, and results.csv and report.html in --out.")
    for name, count in (("--seeds", config.seeds), ("--jobs", config.jobs)):
        if count is not None and count < 1:
            raise InputError.at(name, "too low", value=count, want="at least 1")
    board = open_board(config.board, profile=config.profile)
    spec, profile = board.spec, board.profile
    if config.backend == "sim" and config.gap:
        raise InputError.at("--gap", "is between the simulator and a machine", want="--backend real, or emulated")
    if config.backend != "sim" and config.vary:
        raise InputError.at("--vary", "only a simulated board varies", want="leave it out, or --backend sim")
    asked = config.controllers or (ALL,)
    if config.backend != "sim" and ALL in asked:
        want = "name a few: every flight takes as long as its scenario"
        raise InputError.at("--controllers", "too many for a board that is not simulated", value=ALL, want=want)
    everyone = policy_names(len(profile.rungs), spec)
    controllers = [c for named in asked for c in (everyone if named == ALL else [named])]
    check_controllers(controllers, spec, profile)
    found = {c: policy_file(c) for c in controllers}
    files = {c: hashlib.sha256(read_bytes(file)).hexdigest() for c, file in found.items() if file is not None}
    scenarios = [load_scenario(path, spec) for path in config.scenarios]
    scenarios = scenarios or scenario_set("held_out", spec, profile, HELD_OUT)
    check_scenarios(scenarios)
    check_folder(config.out, SCRIPT, again=True)
    seeds = range(config.seeds)
    earlier = (config.out / RECORD).exists()  # by `check_folder` one of this command
    folder = RunFolder(
        config.out,
        SCRIPT,
        config=asdict(config),
        model=board.simulator.model,
        profile=profile,
        scenarios=scenarios,
        seeds={"board": list(seeds), "scenarios": [s.name for s in scenarios]},
        again=True,
    )
    folder.note(controllers=files)
    with folder:
        if earlier:  # what is found here afterwards is of this run
            for path in (*(folder.path / name for name in OUTPUTS), *(folder.path / "telemetry").glob("*.csv")):
                path.unlink(missing_ok=True)
        telemetry = folder.path / "telemetry" if config.telemetry else None
        if telemetry is not None:
            make_folder(telemetry)
        with Bar("comparing", "flights") as bar:
            comparison = evaluate(
                controllers,
                config.board,
                profile,
                scenarios,
                seeds,
                jobs=config.jobs or default_jobs(),
                telemetry=telemetry,
                vary=config.vary,
                backend=config.backend,
                source=config.profile,
                simulate_too=config.gap,
                on_progress=bar.update,
            )
        write_results(comparison.rows, folder.path / "results.csv")
        write_report(folder.path / "report.html", comparison, profile, files, config.backend)
        if config.gap:
            apart = gaps(comparison.simulated, comparison.rows)
            write_gaps(apart, folder.path / "gap.csv")
    print_comparison(comparison, profile, files, config.backend)
    if config.gap:
        print_gaps(apart)
    print(f"Results: {folder.path / 'results.csv'}, {folder.path / 'report.html'}")


if __name__ == "__main__":
    main_guard(main)
