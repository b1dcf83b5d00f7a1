"""Measurement files made of known parameters, and `fit_board.py` on them: what the tests of the command share."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments import fit_board
from experiments._ncnn_timings import NETWORKS
from hw.boardfile import load_board
from hw.boardmodel import leak_growth, leak_scale
from hw.errors import InputError

Rows = list[dict[str, str]]
EVENTS = ("CycleCount", *(f"Event {code}" for code in ("0x1b", "0x73", "0x14", "0x50", "0x6a", "0x19")))


def write(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def powmon() -> Rows:
    """Nine workloads, three of a class, at three clocks; power as the documented law gives it."""
    rows = []
    for i, (ipc, integer) in enumerate([(0.2, 0.3), (1.0, 0.6), (1.0, 0.2)] * 3):
        for mhz, volts in ((200, 0.916), (1000, 0.944), (1800, 1.174)):
            rate = mhz * 1e6 * (0.2 + 0.08 * i)
            nf = {0: 0.22, 1: 0.35, 2: 0.43}[i % 3]
            temp = 45 + 2 * i + mhz / 100
            watts = volts**2 * (0.17 * mhz / 1e3 + nf * 4 * rate / 1e9) + 0.11 * volts * np.exp(4 * (volts - 1))
            events = (rate, ipc * rate, integer * ipc * rate, 0.1 * rate, 0.01 * rate, 1e-3 * rate, 0.02 * rate)
            head = {"Workload Name": f"w{i}", "Core Mask": "4,5,6,7:4,5,6,7", "Frequency A15": f"{mhz}"}
            head |= {"Voltage A15": f"{volts}", "Power A15": f"{watts:.6f}", "Average Temperature A15": f"{temp}"}
            rows.append(head | {f"Average A15 {e}": f"{x:.0f}" for e, x in zip(EVENTS, events, strict=True)})
            rows[-1]["a column of my own"] = "ignored"
    return rows


def powmon_of_more() -> Rows:
    """The same with the rails beside, and of every workload a copy alone and three: 1.0, 1.2 and 1.4 times as long."""
    rows = []
    for i, cells in enumerate(powmon()):
        for copies in (1, 2, 3):
            rate = float(cells["Frequency A15"]) * 1e6 * copies / 4
            gbps = rate * (0.002 * (i % 9)) * 64 / 1e9
            row = cells | {"Core Mask": ":".join(["4,5,6,7"] * copies), "Average A15 CycleCount": f"{rate:.0f}"}
            stalls = 0.2 + float(cells["Frequency A15"]) / 1800  # cycles an instruction
            row["Average A15 Event 0x1b"] = f"{rate / stalls / (0.8 + 0.2 * copies):.0f}"
            row["Average A15 Event 0x19"] = f"{gbps * 1e9 / 64:.0f}"
            row["Power Memory"] = f"{0.03 + 0.07 * gbps:.5f}"
            row["Power GPU"] = f"{0.1 * np.exp(0.01 * (float(cells['Average Temperature A15']) - 50)):.5f}"
            rows.append(row)
    return rows


def traces(runs: int = 5) -> Rows:
    """Runs that end warmer than they began: 5 K/W in a second and 3 K/W in 30 s, and a fan of its own at the end."""
    rng = np.random.default_rng(0)
    rows: Rows = []
    for name in [*(f"PARSEC_{i}_1800000" for i in range(runs)), "cBench_1_1800000"]:
        fast, slow = 5.0, 3.0
        for i in range(40):
            big = 1.0 + (i // 8) % 3
            fast += (5.0 * big - fast) * 0.4
            slow += (3.0 * big - slow) * 0.017
            row = {"run": name, "t_s": f"{0.51 * i:.2f}", "f_a15_mhz": "1800", "P_a15": f"{big}", "P_a7": "0.12"}
            row |= {"P_gpu": f"{0.066 + 0.004 * rng.random():.4f}", "P_mem": "0.03", "T_gpu": "40"}
            rows.append(row | {"T_cpu0": f"{38 + fast + slow + rng.random():.1f}", "T_cpu4": "36"})
    return rows


def parsec() -> Rows:
    rows = []
    for i in range(4):
        for mhz in (102, 921, 1479):
            watts = 0.2 + 0.4 * mhz / 1e3 + 0.05 * i
            row = {"Benchmark": f"b{i}", "CPU Frequency (MHz)": f"{mhz}", "CPU Temperature(C)": "36"}
            rows.append(row | {"Voltage[V]": f"{5.07 - 0.01 * i}", "Power[W]": f"{watts:.3f}"})
    return rows


def gpu() -> Rows:
    rows = []
    for i, name in enumerate(("nbody", "MonteCarlo", "cfd", "heartwall", "lavaMD", "myocyte")):
        for mhz, volts in ((76, 0.82), (921, 1.02)):
            for share in (0.2, 0.9):
                watts = 0.24 * volts + volts**2 * mhz / 1e3 * (2.2 + (10.0, 10.0, 4.0, 4.0, 2.4, 2.4)[i] * share)
                row = {"benchmark": name, "f_mhz": f"{mhz}", "V": f"{volts}", "P_w": f"{watts:.4f}"}
                row |= {"gpu_busy_pct": f"{100 * share}", "sm_active_cycles": f"{200 * share}"}
                traffic = (0, 0, 15, 20, 0.5, 0.5)[i] * 1e3 * share * mhz / 1e3
                rows.append(row | {"l2_read_bytes": f"{traffic}", "l2_write_bytes": "0"})
    return rows


def ncnn() -> Rows:
    """Timings of six networks on a Pi, some twice and slower, with rows that are none of its own."""
    rows = []
    for name in ("resnet18", "vgg16", "mobilenet", "squeezenet", "alexnet", "googlenet"):
        work = NETWORKS[name]
        for cores in (1, 4):
            seconds = (0.04 * work.macs + work.activation_bytes) / 2.4e9 * (0.3 + 0.7 / cores)
            seconds += work.weight_bytes / 10e9 + 4000.0 * work.layers / 2.4e9
            row = {"board": "Raspberry Pi 5 (Cortex-A76)", "num_threads": f"{cores}", "gpu_device": "-1"}
            rows += [row | {"model": name, "min_ms": f"{1e3 * seconds * slow:.6f}"} for slow in (1.0, 1.5)]
            rows.append(row | {"model": f"{name}_int8", "min_ms": "1"})
            rows.append(row | {"model": name, "gpu_device": "0", "min_ms": "1"})
    return rows


def power(board: str = "raspberry_pi_5") -> Rows:
    """Every unit of a board at three clocks and three loads; its leakage and all else as the board file says, but a
    busy core, which draws a half more."""
    model, rows = load_board(board), []
    for unit in model.units:
        clock = model.spec.clock(unit.clock)
        for mhz in (clock.freqs_hz[0] / 1e6, clock.freqs_hz[len(clock.freqs_hz) // 2] / 1e6, clock.max_hz / 1e6):
            volts = float(np.interp(mhz * 1e6, clock.freqs_hz, clock.volts))
            for i, busy in enumerate((0.05, 0.5, 1.0) * 2):
                temp_c = 40.0 + 10 * busy + i
                watts = leak_scale(unit, volts) * leak_growth(unit, temp_c)
                watts += volts**2 * mhz / 1e3 * (unit.cluster_nf + 1.5 * unit.background_nf * busy)
                row = {"unit": unit.name, "workload": f"w{i}", "mhz": f"{mhz:g}", "temp_c": f"{temp_c:g}"}
                rows.append(row | {"busy": f"{busy:g}", "watts": f"{watts:.6g}"})
    return rows


MADE: dict[str, tuple[str, Callable[[], Rows]]] = {
    "powmon": ("xu3", powmon),
    "traces": ("xu3", traces),
    "parsec": ("jetson_nano", parsec),
    "gpu": ("jetson_nano", gpu),
    "ncnn": ("raspberry_pi_5", ncnn),
}
WRONG = MADE | {"power": ("raspberry_pi_5", power)}
FILES = {"jetson_nano": {"jetson_nano.toml", "jetson_nano_5w.toml"}}


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fit_board.py", *map(str, words)])
    fit_board.main()


def refused(monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    with pytest.raises(InputError) as error:
        run(monkeypatch, *words)
    assert "\n" not in str(error.value)
    return str(error.value)
