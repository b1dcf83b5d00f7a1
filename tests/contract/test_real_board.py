"""The driver of real boards, flown on emulated ones: it keeps the contract, flies as in simulation, leaves no trace."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import sys
from pathlib import Path

import pytest

from agents.policy import Policy, make_policy
from agents.runtime import control
from envs.families import scenario_set
from envs.reward import RewardWeights
from envs.scenario import Scenario
from hw.catalog import open_board
from hw.check import check_board
from hw.errors import Refused
from hw.real.emulated import EmulatedBoard, EmulatedWorker
from hw.real.emulation import Emulation
from hw.real.state import state_file
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry
from tests.emulated import DEMAND, fly_on, full_speed, model_of, settings
from tests.untrained import untrained_policy

ROOT = Path(__file__).resolve().parents[2]


# ---- the contract ----


@pytest.mark.parametrize("name", ["xu3", "jetson_nano", "jetson_nano_5w", "raspberry_pi_5"])
def test_an_emulated_board_keeps_the_contract(name: str) -> None:
    board = open_board(name, backend="emulated")
    check_board(board, board.profile, deterministic=False)  # energies add up in another order, to the last digits


def test_the_other_kernels_of_the_boards_are_driven_too() -> None:
    for name, kernel in (("xu3", "vendor"), ("jetson_nano", "mainline")):
        model, profile = model_of(name)
        board = EmulatedBoard(model, profile, Emulation.start(model, profile, kernel=kernel))
        board.reset(seed=1)
        assert kernel == ("vendor" if "cpu0/cpufreq" in str(board.record["clocks"]) else "mainline")
        energy_j = board.step(full_speed(board.spec), DEMAND).energy_j
        assert energy_j is not None
        assert energy_j[board.spec.big_unit.name] > 0.01
        board.close()


# ---- emulated and simulated ----


class Fixed:
    """One setting, for ever."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        pass

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        return self._knobs


def static_best(board: str, scenario: Scenario, seed: int) -> Policy:
    """The bound's choice, made on a simulated twin: it cannot see into an emulated board."""
    twin, bound = open_board(board), make_policy("static_best")
    bound.bind(twin, scenario, RewardWeights())  # type: ignore[attr-defined]
    telemetry = twin.reset(seed=seed)
    bound.reset(twin.spec, twin.profile)
    return Fixed(bound.act(telemetry, scenario.demand(0)))


@pytest.mark.parametrize("policy", ["static_best", "schedutil@auto", "saved"])
@pytest.mark.parametrize("name", ["xu3", "jetson_nano"])
def test_an_emulated_flight_is_the_simulated_one(name: str, policy: str) -> None:
    """Same knobs in 99 % of the intervals, energy within 3 %."""
    seed, intervals = 5, 40
    simulated = open_board(name)
    spec, profile = simulated.spec, simulated.profile
    scenario = scenario_set("held_out", spec, profile, 1, seed=3)[0]

    def pilot() -> Policy:
        if policy == "static_best":
            return static_best(name, scenario, seed)
        return untrained_policy(spec, profile) if policy == "saved" else make_policy(policy)

    flown = control(simulated, pilot(), scenario, profile, seed=seed, intervals=intervals)
    board = open_board(name, backend="emulated")
    with contextlib.closing(board):
        emulated = control(board, pilot(), scenario, profile, seed=seed, intervals=intervals)
    same = sum(a.granted == b.granted for a, b in zip(flown, emulated, strict=True))
    assert same >= 0.99 * intervals
    energies_j = [sum(t.total_energy_j or 0.0 for t in trace) for trace in (flown, emulated)]
    assert energies_j[1] == pytest.approx(energies_j[0], rel=0.03)
    for attribute in ("frames", "served", "missed", "labelled"):
        assert sum(getattr(t, attribute) for t in emulated) == pytest.approx(
            sum(getattr(t, attribute) for t in flown), rel=0.03
        )
    assert [t.throttled for t in emulated] == [t.throttled for t in flown]
    for t in (*flown, *emulated):  # beside what was measured on labelled frames, and where there were none
        assert t.profile_accuracy == profile.rung(t.granted.rung).accuracy


def test_the_command_flies_an_emulated_board(tmp_path: Path) -> None:
    telemetry = tmp_path / "flight.csv"
    command = "experiments/deploy_policy.py --policy ladder --board jetson_nano --backend emulated --intervals 3"
    words = [sys.executable, *command.split(), "--telemetry", str(telemetry)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jetson_nano (emulated)" in done.stdout
    rows = list(csv.DictReader(telemetry.read_text().splitlines()))
    rungs = open_board("jetson_nano").profile.rungs
    assert [float(r["profile_accuracy"]) for r in rows] == [rungs[int(r["granted_rung"]) - 1].accuracy for r in rows]
    assert len(rows) == 3
    words[3] = "static_best"
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, "a policy that cannot fly is one line, and the emulator is ended"


# ---- it is left as it was found ----


@pytest.mark.parametrize("name", ["xu3", "jetson_nano"])
def test_the_tree_is_as_before(name: str) -> None:
    emulation = Emulation.start(*model_of(name))
    try:
        before = settings(emulation.root)
        board = fly_on(emulation, name)
        assert settings(emulation.root) == before, "looking is not touching"
        board.reset(seed=0)
        board.step(full_speed(board.spec), DEMAND)
        assert settings(emulation.root) != before
        assert state_file(emulation.root).exists()
        board.close()
        board.close()
        emulation.ask("look")
        after = settings(emulation.root)
        present = ("cur_freq", "setspeed")  # what the kernel's own governor makes of it
        assert {k: v for k, v in after.items() if not k.endswith(present)} == {
            k: v for k, v in before.items() if not k.endswith(present)
        }
        assert not state_file(emulation.root).exists()
        with pytest.raises(Refused, match="closed"):
            board.reset(seed=0)
    finally:
        emulation.close()


def test_a_reset_holds_the_worker(xu3: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of the flight before would be served through the idle interval, and count in the next one's first."""
    told: list[str] = []
    monkeypatch.setattr(EmulatedWorker, "pause", lambda self: told.append("pause"))
    monkeypatch.setattr(Emulation, "sleep", lambda self, seconds: told.append("idle") if seconds > 0.1 else None)
    board = fly_on(xu3)
    with contextlib.closing(board):
        board.reset(seed=0)
        board.step(full_speed(board.spec), DEMAND)
        board.reset(seed=1)
    assert told == ["pause", "idle"] * 2


def test_a_board_that_is_closed_leaves_no_folder() -> None:
    board = open_board("xu3", backend="emulated")
    assert isinstance(board, EmulatedBoard)
    root = board.emulation.root
    board.reset(seed=0)
    board.close()
    assert not root.exists()
    with pytest.raises(Refused):
        board.step(full_speed(board.spec), DEMAND)


def test_the_meters_of_a_vendor_kernel_are_switched_off_again() -> None:
    model, profile = model_of("xu3")
    emulation = Emulation.start(model, profile, kernel="vendor")
    try:
        enable = emulation.root / "sys/bus/i2c/drivers/INA231/3-0040/enable"
        board = EmulatedBoard(model, profile, Emulation.attach(emulation.root, model))
        board.reset(seed=0)
        assert enable.read_text() == "1\n"
        board.close()
        assert enable.read_text() == "0\n"
    finally:
        emulation.close()
