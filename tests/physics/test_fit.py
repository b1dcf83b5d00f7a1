"""Fits give back the parameters that made the data, and refuse what can tell nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.boardfile import load_board
from hw.errors import InputError
from hw.fitfile import load_fit
from hw.measured import Measurements
from hw.simulated import fit_a57, fit_contention, fit_gpu, fit_heat, fit_power, fit_rest, physics
from hw.simulated.fit import fit_relative, folds, nnls
from tests.e2e.measuring import traces, write

few = settings(max_examples=30)


def measured(texts: dict[str, Any], numbers: dict[str, Any]) -> Measurements:
    rows = len(next(iter(numbers.values())))
    return Measurements(
        path=Path("made.csv"),
        texts={k: np.array(v) for k, v in texts.items()},
        numbers={k: np.asarray(v, float) for k, v in numbers.items()},
        lines=np.arange(2, rows + 2),
    )


@few
@given(st.integers(0, 2**32 - 1))
def test_nnls_meets_its_optimality_conditions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((30, 6)) * 10.0 ** rng.integers(-3, 4, 6), rng.normal(size=30)
    c = nnls(a, b)
    gradient = (a.T @ (a @ c - b)) / np.linalg.norm(a, axis=0)
    assert (c >= 0.0).all()
    assert np.abs(gradient[c > 0.0]).max(initial=0.0) < 1e-6
    assert gradient[c == 0.0].min(initial=0.0) > -1e-6


def test_relative_fit_ignores_a_few_odd_rows() -> None:
    rng = np.random.default_rng(1)
    terms = rng.uniform(0.1, 2.0, (400, 3))
    true = np.array([0.5, 0.0, 2.0])
    watts = terms @ true
    watts[::20] *= 1.5
    assert fit_relative(terms, watts) == pytest.approx(true, abs=0.02)


@few
@given(st.integers(2, 40), st.integers(2, 8))
def test_folds_hold_each_name_back_once(count: int, parts: int) -> None:
    names = np.array([f"w{i % count}" for i in range(3 * count)])
    held = list(folds(names, parts, keep=("w0",)))
    times = np.sum(held, axis=0)
    assert (times[names != "w0"] == 1).all() and not times[names == "w0"].any()


def powmon(model: fit_power.PowerModel) -> Measurements:
    """Work of all three classes at five clocks, with the power that `model` gives by its counters."""
    rng = np.random.default_rng(2)
    n = 900
    mhz = rng.choice([200.0, 600.0, 1000.0, 1400.0, 1800.0], n)
    ipc, integer = rng.choice([0.2, 0.9, 1.3], n), rng.uniform(0.1, 0.8, n)
    cycles = mhz * 1e6 * rng.uniform(0.02, 1.0, n)
    data = measured(
        {"Workload Name": [f"w{i % 30}" for i in range(n)], "Core Mask": ["4,5,6,7"] * n},
        {
            "Frequency A15": mhz,
            "Voltage A15": np.interp(mhz, [200, 800, 1800], [0.91, 0.91, 1.18]),
            "Power A15": np.ones(n),
            "Average Temperature A15": rng.uniform(40.0, 90.0, n),
            fit_power.CYCLES: cycles,
            fit_power.SPECULATED: ipc * cycles,
            fit_power.INTEGER: integer * ipc * cycles,
            fit_power.FETCHES: rng.uniform(0.0, 0.4, n) * cycles,
            fit_power.LEVEL2: rng.uniform(0.0, 0.03, n) * cycles,
            fit_power.UNALIGNED: rng.uniform(0.0, 0.02, n) * cycles,
            fit_power.BUS: rng.uniform(0.0, 0.08, n) * cycles,
        },
    )
    watts = fit_power.by_counters(data, model)
    return replace(data, numbers=data.numbers | {"Power A15": watts})


def test_power_parameters_come_back() -> None:
    board, sections = load_fit("xu3")
    true = sections["a15"].model
    assert board == "xu3" and isinstance(true, fit_power.PowerModel)
    data = powmon(true)
    found = fit_power.fit_power(data, np.ones(len(data), bool))
    made = {k: v for k, v in asdict(true).items() if not k.startswith("class")}
    assert {k: v for k, v in asdict(found).items() if k in made} == pytest.approx(made, rel=0.03, abs=1e-3)
    assert set(fit_power.classes(data)) == set(fit_power.CLASSES)


@pytest.mark.parametrize(
    ("kind", "temp_c", "watts"),
    # one busy core at 2 GHz: blackscholes and bodytrack on another XU3, MaiaBlanco/RL-DVFS 045831e
    [("integer", 67, 2.57), ("integer", 79, 2.79), ("integer", 94, 3.12), ("fp", 73, 2.88), ("fp", 94, 3.28)],
)
def test_power_holds_where_the_fit_has_no_data(kind: str, temp_c: float, watts: float) -> None:
    model = load_fit("xu3")[1]["a15"].model
    assert isinstance(model, fit_power.PowerModel)
    mean_core = 2e9 / fit_power.CORES
    events = {key: [0.0] for key in (fit_power.FETCHES, fit_power.LEVEL2, fit_power.UNALIGNED, fit_power.BUS)}
    data = measured(
        {},
        {"Frequency A15": [2000.0], "Voltage A15": [1.303], "Average Temperature A15": [temp_c]}
        | {fit_power.CYCLES: [mean_core], fit_power.SPECULATED: [mean_core]}
        | {fit_power.INTEGER: [mean_core * (0.6 if kind == "integer" else 0.2)], **events},
    )
    assert fit_power.by_class(data, model)[0] == pytest.approx(watts, rel=0.06)


def test_power_never_looks_at_the_measured_power() -> None:
    true = load_fit("xu3")[1]["a15"].model
    assert isinstance(true, fit_power.PowerModel)
    data = powmon(true)
    blind = replace(data, numbers=data.numbers | {"Power A15": np.full(len(data), np.nan)})
    for predict in (fit_power.by_counters, fit_power.by_class):
        assert predict(blind, true) == pytest.approx(predict(data, true))


def test_an_empty_class_is_refused() -> None:
    true = load_fit("xu3")[1]["a15"].model
    assert isinstance(true, fit_power.PowerModel)
    data = powmon(true)
    with pytest.raises(InputError, match=r"made\.csv.*'memory'.*holds no workload of a class"):
        fit_power.fit_power(data, fit_power.classes(data) != "memory")


def trace(name: str, model: fit_heat.HeatModel, seed: int) -> fit_heat.Run:
    """A run that is a sitting by itself."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(400, dtype=np.float64) * 0.51
    big = np.repeat(rng.uniform(0.3, 3.0, 20), 20)
    clock = np.full(400, rng.choice([0.9, 1.5, 2.5]))
    gpu = np.full(400, rng.uniform(0.06, 0.08))
    total = big + rng.uniform(0.1, 0.3)
    run = fit_heat.Run(
        name=name,
        sitting=name,
        sitting_gpu_w=float(gpu[0]),
        sitting_w=float(total.mean()),
        t_s=t_s,
        total_w=total,
        big_w=big,
        gpu_w=gpu,
        clock=clock,
        hottest_c=np.zeros(400),
        gpu_c=rng.uniform(32.0, 45.0),
    )
    return replace(run, hottest_c=fit_heat.predict_heat(run, model))


def test_heat_parameters_come_back() -> None:
    true = load_fit("xu3")[1]["heat"].model
    assert isinstance(true, fit_heat.HeatModel)
    runs = [trace(f"run{i}", true, i) for i in range(12)]
    ambients_c = [
        true.ambient_c + true.ambient_k_per_gpu_w * run.sitting_gpu_w + true.ambient_k_per_w * run.sitting_w
        for run in runs
    ]
    there = replace(true, offset_k=float(np.mean(ambients_c)) - fit_heat.ROOM_C)
    assert asdict(fit_heat.fit_heat(runs)) == pytest.approx(asdict(there), rel=0.01)


def test_runs_of_a_sitting_have_one_ambient(tmp_path: Path) -> None:
    """Else a warmer chip at a higher clock could be a warmer room as well."""
    rows = [
        {**row, "run": name, "P_a15": f"{watts:g}", "P_gpu": f"{gpu_w:g}"}
        for name, watts, gpu_w in (("a_1000", 1.0, 0.06), ("a_1800", 4.0, 0.08), ("b_1000", 1.0, 0.06))
        for row in traces(1)[:40]
    ]
    clock = load_board("xu3").spec.clock("a15")
    runs, _ = fit_heat.read_runs(write(tmp_path / "runs.csv", rows), clock)
    assert [run.sitting for run in runs] == ["a", "a", "b"]
    assert [run.sitting_gpu_w for run in runs] == pytest.approx([0.07, 0.07, 0.06])
    assert [run.sitting_w for run in runs] == pytest.approx([2.72, 2.72, 1.21])


def test_heat_sees_one_temperature_of_a_run() -> None:
    """Its prediction does not change with what the CPU sensors measured, nor with the GPU's after the first sample."""
    model = load_fit("xu3")[1]["heat"].model
    assert isinstance(model, fit_heat.HeatModel)
    run = trace("run", model, 3)
    assert fit_heat.predict_heat(replace(run, hottest_c=run.hottest_c + 9.0), model) == pytest.approx(run.hottest_c)


def test_a57_and_gpu_parameters_come_back() -> None:
    sections = load_fit("jetson_nano")[1]
    a57, gpu = sections["a57"].model, sections["gpu"].model
    assert isinstance(a57, fit_a57.SupplyModel) and isinstance(gpu, fit_gpu.GpuModel)
    rng = np.random.default_rng(4)
    n = 600
    numbers = {"CPU Frequency (MHz)": rng.choice([102.0, 921.0, 1479.0], n), "Power[W]": np.ones(n)}
    numbers |= {"Voltage[V]": rng.uniform(5.0, a57.supply_v, n), "CPU Temperature(C)": rng.uniform(30.0, 60.0, n)}
    numbers[fit_a57.CORE_V] = np.interp(numbers["CPU Frequency (MHz)"], [102.0, 1479.0], [0.9, 1.1])
    numbers["Voltage[V]"][0] = a57.supply_v
    data = measured({"Benchmark": ["b"] * n}, numbers)
    data = replace(data, numbers=data.numbers | {"Power[W]": fit_a57.by_supply(data, a57)})
    found = asdict(fit_a57.fit_a57(data, np.ones(n, bool)))
    made = {k: v for k, v in asdict(a57).items() if k.endswith(("_w", "ghz", "per_v")) and "leak" not in k}
    assert {k: found[k] for k in made} == pytest.approx(made, rel=1e-3)
    data = replace(data, numbers=data.numbers | {"Power[W]": fit_a57.by_clock(data, a57)})
    found = asdict(fit_a57.fit_a57(data, np.ones(n, bool)))
    assert (found["class_nf"], found["leak_a"]) == pytest.approx((a57.class_nf, a57.leak_a), rel=1e-3)

    share = rng.uniform(0.0, 1.0, n)
    data = measured(
        {"benchmark": [f"p{i % 9}" for i in range(n)], "class": [fit_gpu.CLASSES[i % 3] for i in range(n)]},
        {
            "f_mhz": rng.choice([76.0, 460.0, 921.0], n),
            "V": rng.uniform(0.82, 1.05, n),
            "P_w": np.ones(n),
            "gpu_busy_pct": 100 * share,
            "sm_active_cycles": 200 * share,
            "l2_read_bytes": rng.uniform(0.0, 4000.0, n),
            "l2_write_bytes": np.zeros(n),
        },
    )
    data = replace(data, numbers=data.numbers | {"P_w": fit_gpu.by_counters(data, gpu)})
    back = fit_gpu.fit_gpu(data, np.ones(n, bool))
    assert (back.active_arithmetic_nf, back.traffic_nf) == pytest.approx((gpu.active_arithmetic_nf, gpu.traffic_nf))


def copies_of(stretch: float, power: float) -> Measurements:
    """Programs at three clocks, alone and beside one and three copies: each as much slower as the law says."""
    programs = {"calm": 0.0, "mild": 0.1, "odd": 0.4, "heavy": 0.6}  # memory-bound share at 1.8 GHz
    texts: dict[str, list[str]] = {"Workload Name": [], "Core Mask": []}
    rows: list[tuple[float, float, float, float, float]] = []
    for name, top in programs.items():
        for mhz in (600.0, 1200.0, 1800.0):
            flat, stalls = 1.0 - top, top * mhz / 1800.0  # cycles per instruction
            for count in (1, 2, 4):
                slower = 1.0 + (count - 1) * stretch * (stalls / (flat + stalls)) ** power
                cycles = mhz * 1e6 * count / fit_power.CORES
                gbps = 3.0 * top * count
                texts["Workload Name"].append(name)
                texts["Core Mask"].append(":".join(["4,5,6,7"] * count))
                rows.append((mhz, cycles, cycles / (slower * (flat + stalls)), gbps, 40.0 + 10 * count))
    mhz, cycles, speculated, gbps, temp_c = np.array(rows).T
    numbers = {"Frequency A15": mhz, fit_power.CYCLES: cycles, fit_power.SPECULATED: speculated}
    numbers |= {fit_power.BUS: gbps * 1e9 / fit_rest.BYTES / fit_power.CORES, "Average Temperature A15": temp_c}
    return measured(texts, numbers)


def test_stretch_comes_back() -> None:
    beside = fit_contention.beside_copies(copies_of(0.25, physics.STALL_POWER))
    assert len(beside) == 4 * 3 * 2 and beside.memory_share.max() == pytest.approx(0.6)
    model = fit_contention.fit_contention(beside, np.ones(len(beside), bool))
    assert model.stall_stretch == pytest.approx(0.25)
    assert model.ceiling_gbps == pytest.approx(3.0 * 0.6 * 4)  # four copies of what moves most
    assert fit_contention.slow_down(beside, model) == pytest.approx(beside.slower)
    # and it is the simulator's law
    share = beside.memory_share.astype(np.float32)
    longer = physics.crowded_time(np.ones_like(share), share, model.stall_stretch)
    assert 1.0 + beside.others * longer == pytest.approx(fit_contention.slow_down(beside, model), rel=1e-6)


def test_programs_with_a_bound_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stretches that keep them within it, the one that does the others best; else the nearest."""
    beside = fit_contention.beside_copies(copies_of(0.25, physics.STALL_POWER))
    every = np.ones(len(beside), bool)
    heavy = (beside.names == "heavy") & (beside.mhz == 1800.0)
    odd = replace(beside, slower=np.where(heavy, 1.5 * beside.slower - 0.5, beside.slower))
    assert fit_contention.fit_contention(odd, every).stall_stretch == pytest.approx(0.25)
    monkeypatch.setattr(fit_contention, "WANTED", {"heavy": 0.1})
    bound = fit_contention.fit_contention(odd, every)
    off = np.abs(fit_contention.slow_down(odd, bound) / odd.slower - 1.0)[heavy]
    assert 0.25 < bound.stall_stretch < 0.375 and 0.095 < off.max() <= 0.1
    monkeypatch.setattr(fit_contention, "WANTED", {"heavy": 1e-6})
    nearest = fit_contention.fit_contention(odd, every)
    assert nearest.stall_stretch == pytest.approx(0.375)


@pytest.mark.parametrize("cores", [0.3, 3.0])
def test_only_programs_of_one_core_tell_of_contention(cores: float) -> None:
    """Idle ones are not beside their copies; those with threads of their own crowd themselves."""
    data = copies_of(0.25, physics.STALL_POWER)
    heavy = data.texts["Workload Name"] == "heavy"
    for column in (fit_power.CYCLES, fit_power.SPECULATED):
        data[column][heavy] *= cores
    beside = fit_contention.beside_copies(data)
    assert set(beside.names) == {"calm", "mild", "odd"}
    alone = data.rows(fit_power.copies(data) == "1")
    assert len(fit_contention.beside_copies(alone)) == 0


def test_volts_and_the_rails_beside_come_back() -> None:
    data = copies_of(0.25, physics.STALL_POWER)
    every = np.ones(len(data), bool)
    volts = np.interp(data["Frequency A15"], [600.0, 1800.0], [0.9, 1.2]) + np.tile([-0.01, 0.0, 0.01], len(data) // 3)
    mean = fit_rest.fit_volts(replace(data, numbers=data.numbers | {"Voltage A15": volts}), every)
    assert mean.mhz == (600.0, 1200.0, 1800.0) and mean.volts == pytest.approx((0.9, 1.05, 1.2))
    assert fit_rest.volts_at(np.array([300.0, 900.0, 2000.0]), mean) == pytest.approx([0.9, 0.975, 1.2])
    memory, idle = fit_rest.MemoryModel(base_w=0.03, w_per_gbps=0.07), fit_rest.IdleModel(base_w=0.1, per_k=0.01)
    watts = {"Power Memory": fit_rest.memory_w(data, memory), "Power GPU": fit_rest.idle_w(data, idle)}
    assert watts["Power Memory"].max() == pytest.approx(0.03 + 0.07 * 3.0 * 0.6 * 4)
    data = replace(data, numbers=data.numbers | watts)
    assert asdict(fit_rest.fit_memory(data, every)) == pytest.approx(asdict(memory), rel=1e-3)
    assert asdict(fit_rest.fit_idle(data, every)) == pytest.approx(asdict(idle))
