"""Fits a board's parameters to measurements of a real one, and judges the shipped ones on others.

python experiments/fit_board.py --board xu3 --powmon FILE --out DIR
python experiments/fit_board.py --board xu3 --powmon FILE --judge --json OUT.json
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments._cli import main_guard, parse
from experiments._fit_boardfile import board_file
from experiments._fit_tables import print_heat, print_rail, table_text
from experiments._fit_tasks import (
    A15,
    A57,
    GPU,
    HeatResult,
    RailResult,
    RailTask,
    fit_rail,
    fit_runs,
    judge_heat,
    judge_rail,
    read_heat,
)
from experiments._progress import Bar
from experiments._run import check_folder
from hw.errors import InputError
from hw.files import atomic_write_files, read_bytes
from hw.fitfile import SECTIONS, SUFFIX, Origin, Section, fit_boards, fit_text, load_fit
from hw.simulated.fit_heat import HeatModel

TASKS: dict[str, dict[str, RailTask | None]] = {
    "xu3": {"powmon": A15, "traces": None},  # None: temperatures
    "jetson_nano": {"parsec": A57, "gpu": GPU},
}
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
}
KEYS = ("power_mape", "class_power_mape", "power_p95_ape", "temp_rmse_k", "rows")
HELP = """Fit a board's parameters to measurements of a real one, or judge the shipped ones on others (--judge).

A measurement file is a CSV with at least these columns; power is predicted from the others, never from itself.

--powmon, one row per run: Workload Name, Core Mask (one per copy, set apart by colons), Frequency A15 (MHz), Voltage
A15 (V), Power A15 (W), Average Temperature A15 (deg C), and per second, as the mean of the cluster's four cores:
Average A15 CycleCount and Average A15 Event 0x1b (instructions speculated), 0x73 (integer), 0x14 (instruction cache
accesses), 0x50 (level 2 loads), 0x6a (unaligned), 0x19 (bus accesses).

--traces, samples of runs: run (a name; runs named cBench... are left aside, their fan switches on its own), t_s,
f_a15_mhz, T_cpu0, T_cpu4, T_gpu (deg C), P_a15, P_a7, P_gpu, P_mem (W). Of the temperatures the prediction sees
T_gpu of a run's first sample.

--parsec, one row per run: Benchmark, CPU Frequency (MHz), CPU Temperature(C), Voltage[V] (of the 5 V supply), Power[W].

--gpu, samples: benchmark, f_mhz, V, P_w, gpu_busy_pct, sm_active_cycles (% summed over two multiprocessors),
l2_read_bytes, l2_write_bytes; and, where it is there, class (arithmetic, streaming or local).
"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The command line."""

    board: str
    """board by name, or a .fit.toml file of your own to judge"""
    powmon: Path | None = None
    """xu3: power of the A15 rail with counters (.csv)"""
    traces: Path | None = None
    """xu3: power and temperature over time (.csv)"""
    parsec: Path | None = None
    """jetson_nano: power of the A57 rail (.csv)"""
    gpu: Path | None = None
    """jetson_nano: power of the GPU rail (.csv)"""
    judge: bool = False
    """fit nothing: errors of the shipped parameters"""
    json: Path | None = None
    """file for the errors"""
    out: Path | None = None
    """folder for BOARD.fit.toml, errors.csv and report.html, and for BOARD.toml where the simulator can use the fit"""


def main() -> None:
    """Run the command."""
    config = parse(Config, HELP)
    board, shipped = _open(config)
    files = _files(config, board)
    if not config.judge and config.out is None:
        raise InputError("nowhere to write the fit; name a folder with --out, or judge the shipped one with --judge")
    if config.out is not None:
        check_folder(config.out, "fit_board.py", again=True)
    fitted: dict[str, Section] = {}
    results: list[RailResult | HeatResult] = []
    with Bar("fitting", "folds") as bar:
        for flag, path in files.items():
            bar.turn_to(f"fitting {flag}")
            task = TASKS[board][flag]
            name = "heat" if task is None else task.section
            if config.judge:
                if name not in shipped:
                    raise InputError.at(config.board, "has no such section", column=name, want=f"fit one with --{flag}")
                results.append(_judge(board, task, path, shipped[name]))
            else:
                fitted[name], result = _fit(board, flag, task, path, bar)
                results.append(result)
    for result in results:
        print_heat(result) if isinstance(result, HeatResult) else print_rail(result)
    written: dict[Path, bytes] = {}
    if config.json is not None:
        written[config.json] = (json.dumps(_summary(results), indent=2) + "\n").encode()
    if config.out is not None:
        from experiments._fit_page import page  # here: errors alone need no plots

        command = _command(config, files)
        written[config.out / "report.html"] = page(board, command, results, held_back=not config.judge).encode()
        written[config.out / "errors.csv"] = table_text(results).encode()
        if not config.judge:
            sections = shipped | fitted
            ordered = {name: sections[name] for name in SECTIONS[board] if name in sections}
            written[config.out / f"{board}{SUFFIX}"] = fit_text(board, ordered).encode()
            # what ships beside it stands in the board file already; what a fit of one's own had does not
            text, why = board_file(board, fitted if config.board == board else ordered)
            if text is None:
                print(f"No {board}.toml: {why}")
            else:
                written[config.out / f"{board}.toml"] = text.encode()
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
    atomic_write_files(written)
    for path in written:
        print(f"Written: {path}")


def _open(config: Config) -> tuple[str, dict[str, Section]]:
    """The board's name and what is known of it: the shipped fit, or that of a file."""
    if config.board.endswith(".toml"):
        return load_fit(config.board)
    if config.board not in TASKS:
        raise InputError(f"unknown board {config.board!r}; known: {', '.join(TASKS)}, or the path of a {SUFFIX} file")
    return load_fit(config.board) if config.board in fit_boards() else (config.board, {})


def _files(config: Config, board: str) -> dict[str, Path]:
    """Flag and file of what is to be fitted or judged."""
    given = {"powmon": config.powmon, "traces": config.traces, "parsec": config.parsec, "gpu": config.gpu}
    files = {flag: path for flag, path in given.items() if path is not None}
    known = ", ".join(f"--{flag}" for flag in TASKS[board])
    for flag, path in files.items():
        if flag not in TASKS[board]:
            raise InputError.at(f"--{flag}", "is of another board", value=str(path), want=f"{board} takes {known}")
    if config.json is not None and sum(TASKS[board][flag] is not None for flag in files) > 1:
        raise InputError("--json holds the errors of one rail; name one measurement file at a time")
    if not files:
        raise InputError(f"no measurements named; {board} takes {known}")
    return files


def _judge(board: str, task: RailTask | None, path: Path, section: Section) -> RailResult | HeatResult:
    if task is not None:
        return judge_rail(task, task.read(path), section.model)
    assert isinstance(section.model, HeatModel)
    return judge_heat(*read_heat(path, board), section.model)


def _fit(board: str, flag: str, task: RailTask | None, path: Path, bar: Bar) -> tuple[Section, RailResult | HeatResult]:
    """A section's parameters with their origin, and predictions of what each fold had not seen."""
    sha256 = hashlib.sha256(read_bytes(path)).hexdigest()
    result: RailResult | HeatResult
    if task is not None:
        model, result, errors, split = fit_rail(task, task.read(path), bar.update)
    else:
        model, result, errors, split = fit_runs(path, *read_heat(path, board), bar.update)
    origin = Origin(
        command=f"python experiments/fit_board.py --board {board} --{flag} {shlex.quote(path.name)} --out DIR",
        data=path.name,
        source=SOURCES.get(sha256, "not stated"),
        sha256=sha256,
        rows=int(result.summary["rows"]),
        split=split,
        held_back=errors,
    )
    return Section(model=model, origin=origin), result


def _summary(results: list[RailResult | HeatResult]) -> Mapping[str, float | int | None]:
    """The JSON keys; None where nothing was asked."""
    found: dict[str, float | int | None] = dict.fromkeys(KEYS)
    rows = 0
    for result in results:
        found |= result.summary
        rows += int(result.summary["rows"])
    return found | {"rows": rows}


def _command(config: Config, files: Mapping[str, Path]) -> str:
    words = [f"--{flag} {shlex.quote(path.name)}" for flag, path in files.items()]
    how = ["--judge"] if config.judge else []
    return " ".join(["python experiments/fit_board.py --board", shlex.quote(Path(config.board).name), *words, *how])


if __name__ == "__main__":
    main_guard(main)
