"""Fits a board's parameters to measurements of a real one, and judges the known ones on others.

python experiments/fit_board.py --board xu3 --powmon FILE --out DIR
python experiments/fit_board.py --board xu3 --powmon FILE --judge --json OUT.json
python experiments/fit_board.py --board MINE.toml --power FILE --out DIR
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments._cli import main_guard, parse
from experiments._fit_boardfile import board_files
from experiments._fit_result import Fitted, Result
from experiments._fit_tables import print_result, table_text
from experiments._fit_target import TASKS, Target, open_target
from experiments._progress import Bar
from experiments._run import check_folder, make_folder
from hw.errors import InputError
from hw.files import atomic_write_files, read_bytes
from hw.fitfile import SECTIONS, SUFFIX, Origin, Section, fit_text

SOURCES = {  # SHA-256 of a public file -> whose measurements it holds, and under which licence
    "0d8f70f219dd0a0f8d94703f38d8977c2ea68b8981eb2e9aa96f362066dc6b65": (
        "mattw200/gemstone-applypower 9a64fc66, M. J. Walker 2018, BSD-3-Clause"
    ),
    "f971c40bfb8efd82c7db9a28579e4b65b608cd1a5ca1992921508f50685e6689": (
        "kranik/ARMPM_BUILDMODEL d3822e73, K. Nikov 2019, BSD-3-Clause"
    ),
    "9b4bada70b5f257a51cc74f4ae0bf5feabc599708ae3e1f4a66238c16d4676e3": (
        "vl18398/JNano-CPU-CoarseGrain fa0482a1, M. Burgess 2022, BSD-3-Clause"
    ),
    "f4f0350b799ad892d1a0189e928ee3f4bc74151fd2bd6399d0d293ae5b7e3f50": (
        "kranik/ARMPM_BUILDMODEL branch GPU_tx1 6cbe35a8, K. Nikov and J. Nunez-Yanez 2020, BSD-3-Clause"
    ),
    "b17d609bf314e07d6dce05f9d34d71346bb70ce91e344193f796a5b4a10748d7": (
        "Tencent/ncnn a4d2ea1d, benchmark tables, BSD-3-Clause"
    ),
}
RAILS = {"powmon", "parsec", "gpu", "power"}  # flags of files that tell of a rail's power
KEYS = ("power_mape", "class_power_mape", "power_p95_ape", "temp_rmse_k")  # always there, and `rows`
HELP = """Fit a board's parameters to measurements of a real one, or judge the known ones on others (--judge).

A measurement file is a CSV with at least these columns; power is predicted from the others, never from itself.

--powmon, one row per run: Workload Name, Core Mask (one per copy, set apart by colons), Frequency A15 (MHz), Voltage
A15 (V), Power A15 (W), Average Temperature A15 (deg C), and per second, as the mean of the cluster's four cores:
Average A15 CycleCount and Average A15 Event 0x1b (instructions speculated), 0x73 (integer), 0x14 (instruction cache
accesses), 0x50 (level 2 loads), 0x6a (unaligned), 0x19 (bus accesses). Where they are there, Power Memory and Power
GPU (W, idle) tell of these rails, and programs of one core that ran alone and as several copies of contention.

--traces, samples of runs: run (a name; runs named cBench... are left aside, their fan switches on its own; those whose
names differ in what follows the last _ alone were one sitting, of the same programs in the same room), t_s,
f_a15_mhz, T_cpu0, T_cpu4, T_gpu (deg C), P_a15, P_a7, P_gpu, P_mem (W). Of the temperatures the prediction sees
T_gpu of a run's first sample.

--parsec, one row per run: Benchmark, CPU Frequency (MHz), CPU Temperature(C), Voltage[V] (of the 5 V supply), Power[W].

--gpu, samples: benchmark, f_mhz, V, P_w, gpu_busy_pct, sm_active_cycles (% summed over two multiprocessors),
l2_read_bytes, l2_write_bytes; and, where it is there, class (arithmetic, streaming or local). Of a TX1, whose GPU has
two multiprocessors: the Nano's board file gets half.

--power, of any board, one row per run: unit (as the board file calls it), workload (a name), mhz, temp_c, busy (cores;
of a GPU the share of time it is busy), watts (of the unit's rail, powered all the time), and volts where they were
measured.

--ncnn, one row per timing of a network of ncnn's benchmark: board (its name in ncnn's tables), num_threads,
gpu_device (-1: the CPU), model, min_ms.
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str
    """board by name, a board file of your own (.toml), or a fit of your own (.fit.toml) to judge or go on with"""
    powmon: Path | None = None
    """xu3: power of the A15 rail with counters (.csv)"""
    traces: Path | None = None
    """xu3: power and temperature over time (.csv)"""
    parsec: Path | None = None
    """jetson_nano: power of the A57 rail (.csv)"""
    gpu: Path | None = None
    """jetson_nano: power of the GPU rail (.csv)"""
    ncnn: Path | None = None
    """a board that ships: latencies of networks (.csv)"""
    power: Path | None = None
    """any board: power of its units' rails (.csv)"""
    judge: bool = False
    """fit nothing: errors of the parameters that are known of --board"""
    json: Path | None = None
    """file for the errors"""
    out: Path | None = None
    """folder for BOARD.fit.toml, errors.csv and report.html, and for BOARD.toml where the simulator can use the fit"""


def main() -> None:
    """Run the command."""
    config = parse(Config, HELP)
    target = open_target(config.board)
    files = _files(config, target)
    if not config.judge and config.out is None:
        raise InputError("nowhere to write the fit; name a folder with --out, or judge the known one with --judge")
    if config.out is not None:
        check_folder(config.out, "fit_board.py", again=True)
        for name, path in target.files.items():
            if not config.judge and (config.out / f"{name}.toml").resolve() == path.resolve():
                raise InputError.at(path, "would be overwritten", want="name another folder with --out")
    fitted: dict[str, Section] = {}
    shown: list[tuple[Result, str]] = []  # and what predicted it
    rows = 0  # of the measurement files
    with Bar("fitting", "folds") as bar:
        for flag, path in files.items():
            bar.turn_to(f"fitting {flag}")
            if config.judge:
                found = list(_judge(config.board, flag, path, target))
            else:
                sha256 = hashlib.sha256(read_bytes(path)).hexdigest()
                parts = [task.fit(path, bar.update) for task in target.tasks[flag]]
                for part in (part for of_task in parts for part in of_task):
                    origin = _origin(config.board, flag, path, sha256, part)
                    fitted[part.section] = Section(model=part.model, origin=origin)
                found = [[(part.result, f"{part.split}.") for part in of_task] for of_task in parts]
            shown += [pair for of_task in found for pair in of_task]
            rows += sum(int(result.summary["rows"]) for result, _ in found[0])
    results = [result for result, _ in shown]
    for result in results:
        print_result(result)
    written: dict[Path, bytes] = {}
    if config.json is not None:
        written[config.json] = (json.dumps({**_summary(results), "rows": rows}, indent=2) + "\n").encode()
    if config.out is not None:
        from experiments._fit_page import page  # here: errors alone need no plots

        command = _command(config, files)
        written[config.out / "report.html"] = page(target.name, command, shown).encode()
        written[config.out / "errors.csv"] = table_text(results).encode()
        if not config.judge:
            sections = {**target.known, **fitted}
            ordered = {name: sections[name] for name in SECTIONS.get(target.name, {}) if name in sections}
            if ordered:
                written[config.out / f"{target.name}{SUFFIX}"] = fit_text(target.name, ordered).encode()
            # what ships beside it stands in the board file already; what a fit of one's own had does not
            told = {**target.known, **fitted} if target.unwritten else fitted
            for name, (text, why) in board_files(target.files, told).items():
                if text is None:
                    print(f"No {name}.toml: {why}")
                else:
                    written[config.out / f"{name}.toml"] = text.encode()
    if config.out is not None:
        make_folder(config.out)
    atomic_write_files(written)
    for path in written:
        print(f"Written: {path}")


def _judge(board: str, flag: str, path: Path, target: Target) -> Iterator[list[tuple[Result, str]]]:
    """The errors of the parameters that are known, per task, and whose; InputError where the first task's are not."""
    tasks, known = target.tasks[flag], target.known
    for task in tasks:
        models = {name: known[name].model for name in task.sections if name in known}
        if task is tasks[0]:
            for name in task.sections:
                if name not in models:
                    raise InputError.at(board, "has no such section", column=name, want=f"fit one with --{flag}")
        judged = target.known_file if task.sections else next(iter(target.files.values()))
        how = f"Predictions are those of the parameters in {judged.name}; nothing was fitted."
        yield [(result, how) for result in task.judge(path, models)]


def _files(config: Config, target: Target) -> dict[str, Path]:
    """Flag and file of what is to be fitted or judged."""
    flags = dict.fromkeys([*(flag for tasks in TASKS.values() for flag in tasks), "power"])
    files = {flag: getattr(config, flag) for flag in flags if getattr(config, flag) is not None}
    known = ", ".join(f"--{flag}" for flag in target.tasks)
    for flag, path in files.items():
        if flag not in target.tasks:
            want = f"{Path(config.board).name} takes {known}"
            raise InputError.at(f"--{flag}", "is not for this board", value=str(path), want=want)
    rails = sorted(files.keys() & RAILS)
    if len(rails) > 1 and "power" in rails:
        raise InputError(f"--{' and --'.join(rails)} may tell of the same rail; name one of them at a time")
    if len(rails) > 1 and config.json is not None:
        raise InputError("--json holds the errors of one rail; name one measurement file at a time")
    if not files:
        raise InputError(f"no measurements named; {target.name} takes {known}")
    return files


def _origin(board: str, flag: str, path: Path, sha256: str, part: Fitted) -> Origin:
    """Where a section's parameters come from."""
    words = f"--board {shlex.quote(Path(board).name)} --{flag} {shlex.quote(path.name)}"
    return Origin(
        command=f"python experiments/fit_board.py {words} --out DIR",
        data=path.name,
        source=SOURCES.get(sha256, "not stated"),
        sha256=sha256,
        rows=int(part.result.summary["rows"]),
        split=part.split,
        held_back=part.errors,
    )


def _summary(results: Sequence[Result]) -> Mapping[str, float | int | None]:
    """The JSON keys but `rows`; None where nothing was asked, the mean over all rows where two units were."""
    found: dict[str, float | int | None] = dict.fromkeys(KEYS)
    for key in dict.fromkeys(key for result in results for key in result.summary if key != "rows"):
        told = [(result.summary[key], result.summary["rows"]) for result in results if key in result.summary]
        found[key] = sum(value * rows for value, rows in told) / sum(rows for _, rows in told)
    return found


def _command(config: Config, files: Mapping[str, Path]) -> str:
    words = [f"--{flag} {shlex.quote(path.name)}" for flag, path in files.items()]
    how = ["--judge"] if config.judge else []
    return " ".join(["python experiments/fit_board.py --board", shlex.quote(Path(config.board).name), *words, *how])


if __name__ == "__main__":
    main_guard(main)
