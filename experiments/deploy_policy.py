"""Flies a saved policy on a board, under watch; needs nothing beyond numpy.

python experiments/deploy_policy.py --policy runs/RUN/policy.npz --board xu3 --backend sim
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, NoReturn

from agents.policy import Policy, Privileged, make_policy, policy_file
from agents.watch import Shadow, hot_limit_c
from envs.families import scenario_set
from envs.scenario import Scenario, load_scenario
from experiments._cli import main_guard
from experiments._flight import Flight
from experiments._lines import say
from experiments._remote import RESTORE, Remote
from experiments._telemetry import FlightLog
from hw.boardmodel import BoardModel
from hw.catalog import BACKENDS, HOST, find_model, open_board
from hw.errors import InputError
from hw.profile import open_profile
from hw.real.cgroup import remove_left
from hw.real.state import BOOT_ID, SavedState, rescue
from hw.real.sysfs import Sysfs
from hw.real.tree import FIRST_GOVERNOR
from hw.types import BoardSpec, Profile


class _Plan(NamedTuple):
    """What flies, read and found to fit."""

    model: BoardModel
    policy: Policy
    fallback: Policy | None
    scenario: Scenario


def main() -> int:
    """Run the command; the exit status."""
    args = _arguments()
    if args.restore and args.remote is not None:
        raise InputError(f"--restore puts back the machine that it runs on; there: ssh {args.remote} '{RESTORE}'")
    if args.restore:
        return _restore(args.root or Path("/"))
    for option in ("policy", "board"):
        if getattr(args, option) is None:
            raise InputError(f"--{option} is missing; --help shows all options")
    if args.intervals is not None and args.intervals < 1:
        raise InputError.at("--intervals", "too low", value=args.intervals, want="at least 1")
    if args.seed < 0:
        raise InputError.at("--seed", "too low", value=args.seed, want="at least 0")
    if args.shadow and args.fallback is not None:
        raise InputError("--fallback has nothing to take over in a --shadow flight: the board's governor acts")
    if args.remote is not None:
        return _fly_there(args)
    return _fly(args)


def _fly(args: argparse.Namespace) -> int:
    plan = _plan(args)
    board = open_board(args.board, profile=args.profile, backend=args.backend, shadow=args.shadow, root=args.root)
    with closing(board):
        spec, profile, scenario, policy = board.spec, board.profile, plan.scenario, plan.policy
        if args.shadow:
            policy = Shadow(policy, _governor(args.backend, plan.model))
        count = scenario.n_intervals(spec.interval_s)
        if args.intervals is not None:
            count = min(count, args.intervals)
        modelled = ", energy modelled" if profile.provenance.get("power") == "modelled" else ""
        shadow = "; shadow flight: what is asked is not done, the board's governor acts" if args.shadow else ""
        flight = Flight(
            board,
            policy,
            title=f"{args.policy} on {spec.name} ({args.backend}), scenario {scenario.name}, "
            f"{count} intervals of {spec.interval_s:g} s; "
            f"profile {profile.name!r}, kind {profile.kind}{modelled}{shadow}",
            hot_c=hot_limit_c(t.trip_c for t in plan.model.throttle),
            fallback=plan.fallback,
            fallback_name=args.fallback,
            file=None if args.telemetry is None else FlightLog(args.telemetry, spec),
        )
        return flight.fly(scenario, seed=args.seed, intervals=count)


def _fly_there(args: argparse.Namespace) -> int:
    if args.root is not None:
        raise InputError("--root is a folder of this machine, --remote flies on another one")
    remote = Remote(args.remote)
    _plan(args)  # what cannot fly is refused here, before anything is changed there
    return remote.fly(
        policy=args.policy,
        board=args.board,
        profile=args.profile,
        scenario=args.scenario,
        fallback=args.fallback,
        telemetry=Path(args.telemetry or "telemetry.csv"),
        options=_options(args),
    )


def _options(args: argparse.Namespace) -> list[str]:
    """What the flight there is told as it was told here: all that names no file."""
    words = ["--backend", args.backend, "--seed", str(args.seed)]
    words += [] if args.intervals is None else ["--intervals", str(args.intervals)]
    return words + (["--shadow"] if args.shadow else [])


def _plan(args: argparse.Namespace) -> _Plan:
    """Read everything that a flight needs, and see whether it fits together; nothing is written."""
    for option in ("policy", "fallback", "board", "profile", "scenario"):
        named = getattr(args, option)
        if None not in (named, args.telemetry) and _same(args.telemetry, policy_file(named) or named):
            raise InputError.at("--telemetry", f"is what --{option} reads", value=args.telemetry, want="another file")
    if args.board == HOST and args.profile is None:
        want = f"python experiments/profile_board.py --board {HOST} --out DIR makes one, with {HOST}.toml beside it"
        raise InputError(f"--profile is missing: board {HOST} flies by a .csv that was measured on it; {want}")
    model = find_model(args.board, args.profile)
    spec, profile = model.spec, open_profile(model, args.profile)
    return _Plan(
        model=model,
        policy=_policy("--policy", args.policy, spec, profile),
        fallback=None if args.fallback is None else _policy("--fallback", args.fallback, spec, profile),
        scenario=_scenario(args.scenario, spec, profile),
    )


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:  # one of them is not there
        return False


def _policy(option: str, name: str, spec: BoardSpec, profile: Profile) -> Policy:
    """The policy that an option names; InputError that names the option where it cannot fly this board."""
    try:
        policy = make_policy(name)
        if isinstance(policy, Privileged):
            want = "use it in compare.py; it cannot be flown"
            raise InputError.at("controller", "is a bound that knows the future", value=name, want=want)
        policy.reset(spec, profile)
    except InputError as error:
        raise InputError(f"{option} {error}".replace(" controller,", ",", 1)) from None
    return policy


def _restore(root: Path) -> int:
    if not root.is_dir():
        raise InputError.at("--root", "is no folder", value=str(root), want="name the one of a running emulator")
    saved = rescue(root)
    # a quota's group goes with its guard; where that was killed too, here. `cpu` and `cpu,cpuacct` may be one folder
    groups = {Path(group).name: root / group for group in remove_left(Sysfs(root))}
    if saved is not None:
        say(_restored(saved))
    elif not groups:
        say("nothing to put back: no controller left anything")
    for group in groups.values():
        say(f"removed what a dead controller left: cgroup {group}")
    return 0


def _restored(saved: SavedState) -> str:
    """What putting these settings back came to."""
    if saved.boot_id != Sysfs(saved.root).read(BOOT_ID):
        return f"{saved.board}: nothing was put back: the machine was booted since {saved.when}, its settings are new"
    if not saved.values:
        return f"{saved.board}: nothing to put back: the controller of {saved.when} changed no setting"
    return f"{saved.board}: put back {len(saved.values)} settings as they were at {saved.when}"


def _governor(backend: str, model: BoardModel) -> Policy:
    """Who acts in a shadow flight. On a board with a kernel its governor does, and only the rung is left to say."""
    if backend != "sim":
        return make_policy("powersave@auto")
    return make_policy(f"{FIRST_GOVERNOR[model.real.kernel] if model.real is not None else 'schedutil'}@auto")


def _scenario(path: str | None, spec: BoardSpec, profile: Profile) -> Scenario:
    """The scenario of a file, or the first of the held-out family."""
    return load_scenario(path, spec) if path else scenario_set("held_out", spec, profile, 1)[0]


class _OneLine(argparse.ArgumentParser):
    """argparse with errors as every command of ours words them."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help shows all options")


def _arguments() -> argparse.Namespace:
    parser = _OneLine(
        description="Fly a saved policy on a board, with one line per control interval. Exit status: 0 flown, "
        "2 refused, 3 ended by a fault, 130 interrupted. The board is put back in every case; where that fails, an "
        "error says so, status 2. With --remote Ctrl-C, or a connection that fails, ends the following and not the "
        "flight."
    )
    parser.add_argument("--policy", metavar="FILE.npz", help="saved policy, a controller's name, or FILE.py:CLASS")
    parser.add_argument("--board", help="board: a name, a board's .toml file, or host (this machine)")
    parser.add_argument("--backend", choices=BACKENDS, default="sim", help="where it flies (default: sim)")
    parser.add_argument("--profile", help="profile: a name, a .csv file or a ladder (default: the board's own)")
    parser.add_argument(
        "--scenario", metavar="FILE", help="scenario file, see docs/FILES.md (default: one of the held-out family)"
    )
    parser.add_argument("--intervals", type=int, metavar="N", help="stop after N intervals")
    parser.add_argument("--telemetry", metavar="FILE", help="write telemetry as CSV (with --remote: telemetry.csv)")
    parser.add_argument("--seed", type=int, default=0, help="of a simulated or emulated board's noise (default: 0)")
    parser.add_argument("--fallback", metavar="NAME", help="policy that takes over where this one, or a meter, fails")
    parser.add_argument(
        "--shadow", action="store_true", help="the board's governor acts, the policy only says what it would do"
    )
    parser.add_argument("--remote", metavar="USER@HOST", help="fly there, over ssh and rsync; telemetry comes back")
    parser.add_argument("--root", type=Path, metavar="DIR", help="files of a running emulator (hw.real.emulator --dir)")
    parser.add_argument("--restore", action="store_true", help="put back what a killed controller left, and end")
    return parser.parse_args()


if __name__ == "__main__":
    main_guard(main)
