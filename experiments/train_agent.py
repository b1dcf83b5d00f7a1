"""Trains a controller for a board and compares it, on scenarios it has never seen, with all the others.

python experiments/train_agent.py --board xu3
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from agents.learn_config import Algo, fast_config
from agents.policy import policy_names
from envs.families import scenario_set
from experiments._cli import INTERRUPT_STATUS, main_guard, parse
from experiments._evaluate import HELD_OUT, evaluate
from experiments._jobs import default_jobs
from experiments._metrics import write_results
from experiments._progress import Bar
from experiments._run import RunFolder, check_folder, command_line, default_folder
from experiments._table import print_comparison
from hw.catalog import open_board
from hw.errors import InputError

SCRIPT = "train_agent.py"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str
    """board to simulate: a name, or a board's .toml file"""
    profile: str | None = None
    """profile of the board: a name, a .csv file, or a ladder by name or folder (default: the board's own)"""
    algo: Algo = "ppo"
    """how to learn"""
    steps: int | None = None
    """control intervals to learn from (default: what suits the algorithm)"""
    seed: int = 0
    """of the training"""
    vary: bool = True
    """learn on boards that differ as boards of one model do (the comparison is on the nominal one)"""
    out: Path | None = None
    """run folder (default: runs/<time>-<board>-<algo>)"""
    eval_seeds: int = 5
    """how many seeds of the board's noise in the comparison"""
    jobs: int | None = None
    """processes of the comparison (default: one per core)"""


def main() -> int:
    """Run the command; the exit status."""
    config = parse(Config, "Train a controller in simulation, save it, and compare it on held-out scenarios.")
    for name, number in (("--steps", config.steps), ("--eval-seeds", config.eval_seeds), ("--jobs", config.jobs)):
        if number is not None and number < 1:
            raise InputError.at(name, "too low", value=number, want="at least 1")
    changes = {} if config.steps is None else {"steps": config.steps}
    learning = fast_config(config.algo, seed=config.seed, **changes)
    board = open_board(config.board, profile=config.profile)
    spec, profile = board.spec, board.profile
    scenarios = scenario_set("held_out", spec, profile, HELD_OUT)
    out = config.out or default_folder(spec.name, config.algo)
    check_folder(out, SCRIPT, again=False)

    # torch takes seconds to import: not before everything cheap was checked
    from agents.learn import export, train
    from envs.vector import make_sb3_env

    env = make_sb3_env(
        config.board,
        config.profile,
        n_envs=learning.n_envs,
        seed=config.seed,
        action_view=learning.action_view,
        vary=config.vary,
    )
    folder = RunFolder(
        out,
        SCRIPT,
        config=asdict(config) | {"learning": asdict(learning)},
        model=board.simulator.model,
        profile=profile,
        scenarios=scenarios,
        seeds={
            "training": config.seed,
            "board": list(range(config.eval_seeds)),
            "scenarios": [s.name for s in scenarios],
        },
    )
    with folder:
        policy = folder.path / "policy.npz"
        with Bar("imitating", "steps") as bar:

            def on_progress(steps: int, reward: float) -> None:
                bar.turn_to("training")
                bar.update(steps, learning.steps, f"reward {reward:.3f}")

            trained = train(
                learning,
                env,
                tensorboard_dir=folder.path / "tensorboard",
                on_progress=on_progress,
                on_lesson=bar.update,
            )
        export(
            trained.model,
            env.codec,
            policy,
            profile=profile,
            spec=spec,
            command=command_line(),
            config=learning,
        )
        folder.note(steps=trained.steps, training_s=round(trained.seconds, 3))
        if trained.interrupted:
            folder.note(status="interrupted")
            print(f"interrupted after {trained.steps:,} steps; policy saved: {policy}", file=sys.stderr)
            return INTERRUPT_STATUS
        print(
            f"Trained {trained.steps:,} steps in {trained.seconds:.0f} s "
            f"({trained.steps_per_s:,.0f} steps/s); policy saved: {policy}",
            flush=True,
        )
        try:
            with Bar("comparing", "flights") as bar:
                comparison = evaluate(
                    [policy, *policy_names(len(profile.rungs), spec)],
                    config.board,
                    profile,
                    scenarios,
                    range(config.eval_seeds),
                    jobs=config.jobs or default_jobs(),
                    labels={str(policy): config.algo},
                    source=config.profile,
                    on_progress=bar.update,
                )
        except KeyboardInterrupt:
            folder.note(status="interrupted")
            print(f"interrupted in the comparison; policy saved: {policy}", file=sys.stderr)
            return INTERRUPT_STATUS
        write_results(comparison.rows, folder.path / "results.csv")
        from experiments._report import write_report  # here: matplotlib takes a while, too

        write_report(folder.path / "report.html", comparison, profile, [config.algo])
    print_comparison(comparison, profile, [config.algo])
    print(f"Run folder: {folder.path}  (tensorboard --logdir {folder.path})")
    return 0


if __name__ == "__main__":
    main_guard(main)
