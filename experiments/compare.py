"""Compares controllers: every one on every scenario with every seed, against a clairvoyant bound.

python experiments/compare.py --board xu3 --out results
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from agents.policy import policy_names
from envs.families import scenario_set
from envs.scenario import load_scenario
from experiments._cli import main_guard, parse
from experiments._evaluate import HELD_OUT, check_controllers, check_scenarios, default_jobs, evaluate
from experiments._metrics import write_results
from experiments._progress import Bar
from experiments._run import RunFolder, check_folder
from experiments._table import print_comparison
from hw.catalog import open_board
from hw.errors import InputError

SCRIPT = "compare.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str
    """board to simulate: a name, or a board's .toml file"""
    out: Path
    """folder for results.csv and run.json"""
    profile: str | None = None
    """profile of the board: a name or a .csv file (default: the board's own)"""
    scenarios: tuple[Path, ...] = ()
    """scenario files (default: eight of the held-out family)"""
    controllers: tuple[str, ...] = ()
    """controllers by name, or saved policies FILE.npz (default: every controller there is)"""
    seeds: int = 5
    """how many seeds of the board's noise"""
    jobs: int | None = None
    """processes at a time (default: one per core)"""
    vary: bool = False
    """every seed is another board of the model: voltage, leakage, heat and speed vary"""
    telemetry: bool = False
    """also write telemetry/*.csv, one per flight"""


def main() -> None:
    """Run the command."""
    config = parse(Config, "Compare controllers on simulated boards: a table, and results.csv in --out.")
    for name, count in (("--seeds", config.seeds), ("--jobs", config.jobs)):
        if count is not None and count < 1:
            raise InputError.at(name, "too low", value=count, want="at least 1")
    board = open_board(config.board, profile=config.profile)
    spec, profile = board.spec, board.profile
    controllers = config.controllers or tuple(policy_names(len(profile.rungs), spec))
    check_controllers(controllers, spec, profile)
    scenarios = [load_scenario(path, spec) for path in config.scenarios]
    scenarios = scenarios or scenario_set("held_out", spec, profile, HELD_OUT)
    check_scenarios(scenarios)
    check_folder(config.out, SCRIPT, again=True)
    seeds = range(config.seeds)
    folder = RunFolder(
        config.out,
        SCRIPT,
        config=asdict(config),
        spec=spec,
        profile=profile,
        seeds={"board": list(seeds), "scenarios": [s.name for s in scenarios]},
        again=True,
    )
    with folder:
        telemetry = folder.path / "telemetry" if config.telemetry else None
        if telemetry is not None:
            telemetry.mkdir(exist_ok=True)
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
                on_progress=bar.update,
            )
        write_results(comparison.rows, folder.path / "results.csv")
    print_comparison(comparison, profile, [c for c in controllers if c.endswith(".npz")])
    print(f"Results: {folder.path / 'results.csv'}")


if __name__ == "__main__":
    main_guard(main)
