"""Profiles this machine: latency and power of a ladder at every operating point, measured.

python experiments/profile_board.py --board host --ladder alexnet-paper --out runs/host-profile
python experiments/profile_board.py --validate runs/host-profile/host-measured.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from experiments._cli import main_guard, parse
from experiments._journal import Journal, Sample
from experiments._profile_lint import show, validate
from experiments._profile_setup import Setup, open_setup, other_work, set_up
from experiments._progress import Bar
from experiments._run import RunFolder, check_folder
from experiments._sweep import BUSY_SHARE, COOL_K, COOL_S, Effort, Sweep, operating_point, order
from hw.errors import InputError
from hw.profile import load_profile, save_profile
from hw.profiletable import Key, grid
from hw.real.identity import check_present
from hw.real.quota import FULL_PERIODS, PERIOD_S
from hw.real.sysfs import Sysfs
from hw.types import Profile

SCRIPT = "profile_board.py"
JOURNAL = "samples.jsonl"
NAME = "measured"
QUIET = 0.1  # of its cores' time: a machine that is busier has other work
FULL = Effort(frames=30, least_s=2.0, most_s=20.0)
QUICK = Effort(frames=5, least_s=0.5, most_s=2.0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str | None = None
    """this machine: host, or the board that it is (xu3, jetson_nano, a .toml file)"""
    out: Path | None = None
    """folder for the profile; where it holds a part of one, that is gone on with"""
    ladder: str | None = None
    """network to serve: a name of the zoo or a folder with ladder.json (default: a busy loop in its place, but not
    on a GPU)"""
    frames: Path | None = None
    """pictures for the network, as dyndnn.serve takes them (default: noise)"""
    repeats: int | None = None
    """times that every point is measured, each time in a new order (default: 3, with --quick 1)"""
    quick: bool = False
    """fewer frames a point: minutes, and noisier"""
    clock: str = "auto"
    """host: cpufreq, quota, fixed, or the first of them that is there"""
    cores: int | None = None
    """host: how many of its cores (default: all)"""
    power_model: bool = False
    """host: power by a made-up law, marked as modelled, in place of a meter (there may be none, or only for root)"""
    seed: int = 0
    """of the order"""
    validate: Path | None = None
    """a profile to look through; nothing is measured"""


def main() -> None:
    """Run the command."""
    config = parse(Config, __doc__ or "")
    if config.validate is not None:
        validate(config.validate, config.board)
        return
    if config.board is None or config.out is None:
        missing = "--board" if config.board is None else "--out"
        raise InputError(f"{missing} is missing; a sweep needs --board and --out, --validate a file alone")
    if config.repeats is not None and config.repeats < 1:
        raise InputError.at("--repeats", "too low", value=config.repeats, want="at least 1")
    if config.seed < 0:
        raise InputError.at("--seed", "too low", value=config.seed, want="at least 0")
    measure(config, config.board, config.out)


def measure(config: Config, board_name: str, out: Path) -> None:
    """Sweep the board, or go on with it, and write its profile."""
    check_folder(out, SCRIPT, again=True)
    effort = QUICK if config.quick else FULL
    repeats = config.repeats or (1 if config.quick else 3)
    with ExitStack() as opened:
        with nothing_left(out):
            setup = set_up(
                board_name,
                out,
                ladder=config.ladder,
                frames=config.frames,
                clock=config.clock,
                cores=config.cores,
                power_model=config.power_model,
            )
            spec = setup.model.spec
            check_present(Sysfs("/"), spec.name, setup.model.cpus)
            profile = Profile(name=NAME, board=spec.name, kind="measured", rungs=setup.rungs, points=())
            head = {"board": spec.hash, "power_model": setup.power_model, **asdict(effort), **asdict(setup.plan)}
            journal = Journal(out / JOURNAL, head)
            opened.callback(journal.close)
            board, worker = open_setup(setup, profile)
            opened.callback(board.close)
            busy = other_work(setup.model)  # nothing of ours runs before the reset
            if busy > QUIET:
                print(f"This machine is {100 * busy:.0f} % busy with other work: what is measured is what that leaves.")
            board.reset()
        todo = order(grid(spec, len(setup.rungs)), repeats, config.seed)
        run = RunFolder(
            out,
            SCRIPT,
            config=asdict(config),
            model=setup.model,
            profile=profile,
            seeds={"order": config.seed},
            again=True,
        )
        with run:
            sweep(Sweep(board, worker, effort), todo, journal, spec.name)
            record = board.record
            opened.close()  # the board is put back, what follows is arithmetic
            by_key = {sample.key: [s for s in journal.samples if s.key == sample.key] for sample in journal.samples}
            points = tuple(operating_point(spec, key, by_key[key]) for key in grid(spec, len(setup.rungs)))
            profile = replace(profile, points=points)
            least = min(len(samples) for samples in by_key.values())
            effort_told = (
                f"{effort.frames} or more of them a time, or what {effort.most_s:g} s allow, {least} times each"
            )
            if cut := sum(sample.cut for sample in journal.samples):
                effort_told += (
                    f"; {cut} of {len(journal.samples)} times fewer: the board began to throttle, and what it served "
                    "until then counts"
                )
            profile = replace(profile, provenance=provenance(setup, profile, record, worker.told, effort_told, busy))
            path = out / f"{spec.name}-{NAME}.csv"
            save_profile(profile, path)
            profile = load_profile(path, spec)
            run.note(profile={"name": NAME, "kind": profile.kind, "checksum": profile.checksum}, machine=record)
    show(profile, spec, path)


def sweep(measuring: Sweep, todo: Sequence[tuple[Key, int]], journal: Journal, board: str) -> None:
    """Measure what the journal lacks, with a bar."""
    try:
        with Bar(f"profiling {board}", "points") as bar:
            bar.update(len(journal.samples), len(todo))

            def told(sample: Sample) -> None:
                rung, unit, cores, freq_hz = sample.key
                mean_ms = 1e3 * sum(sample.service_s) / len(sample.service_s)
                note = f"rung {rung}, {cores} x {unit} at {freq_hz / 1e6:.0f} MHz: {mean_ms:.1f} ms"
                bar.update(len(journal.samples), len(todo), note)

            measuring.run(todo, journal, told)
    except KeyboardInterrupt:
        kept = f"{len(journal.samples)} of {len(todo)} measurements are kept; the same command goes on"
        print(kept, file=sys.stderr)
        raise


@contextmanager
def nothing_left(out: Path) -> Iterator[None]:
    """A folder that is made for what is done within; where that fails, what was not there before is removed."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    before = set(out.glob("*"))
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError.at(out, f"cannot be written: {error.strerror}", want="name another folder") from None
        yield
    except BaseException:
        for path in set(out.glob("*")) - before:
            path.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def provenance(
    setup: Setup, profile: Profile, record: Mapping[str, object], worker: str, effort: str, busy: float
) -> dict[str, object]:
    """Where the numbers come from, in words."""
    metered = not any(math.isnan(p.power_w) for p in profile.points)
    power = ("modelled" if setup.power_model else "measured") if metered else "missing"
    drivers = record["clocks"]
    assert isinstance(drivers, dict)
    clocks = "; ".join(f"{name} by {driver['driver']}" for name, driver in drivers.items())
    quota = f" (a frame is sized to last {FULL_PERIODS} of its periods of {PERIOD_S:g} s or more)"
    how = (
        f"Measured by experiments/{SCRIPT}, kernel {record['kernel']}. Served by {worker}. Clocks: {clocks}"
        f"{quota if setup.clock == 'quota' else ''}. {effort}, in an order drawn anew each time. "
        "Power while frames come back to back; latency, from start to result, while they come on a clock that leaves "
        f"{100 * (1 - BUSY_SHARE):.0f} % of the time free. The first frame of either is left out; a point begins "
        f"within {COOL_K:g} K of the first one's temperature where there is a sensor, or after {COOL_S:g} s. "
        f"Power {power}: {record['meter']}. Other work took "
        f"{100 * busy:.0f} % of the cores before the sweep."
    )
    ladder = Path(setup.plan.ladder).name
    accuracy = f"ladder {ladder}, measured by ncnn on test images when it was exported"
    if setup.plan.rounds:
        accuracy += "; a busy loop does its work in proportion to the MACs"
    found: dict[str, object] = {
        "ladder": ladder,
        "how": how,
        "when": date.today().isoformat(),
        "sensor_rate_hz": setup.sensor_rate_hz,
        "accuracy_source": (accuracy,) * len(profile.rungs),
    }
    return found if power == "measured" else {**found, "power": power}


if __name__ == "__main__":
    main_guard(main)
