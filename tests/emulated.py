"""What tests of real boards share: an emulated one to fly on, and a look at what is set in its files."""

from __future__ import annotations

from pathlib import Path

from hw.boardfile import load_board
from hw.boardmodel import BoardModel
from hw.profile import open_profile
from hw.real.emulated import EmulatedBoard
from hw.real.emulation import Emulation
from hw.types import BoardSpec, Demand, Knobs, Profile

DEMAND = Demand(rate_hz=20.0, deadline_s=0.1, accuracy_min=0.6, energy_budget_j=1.0, goal="min_energy")
POLICY4 = "sys/devices/system/cpu/cpufreq/policy4"


def model_of(name: str) -> tuple[BoardModel, Profile]:
    """A board that ships and its default profile."""
    model = load_board(name)
    return model, open_profile(model, None)


def fly_on(emulation: Emulation, name: str = "xu3") -> EmulatedBoard:
    """The driver on this emulated board, which stays when the driver is closed."""
    model, profile = model_of(name)
    return EmulatedBoard(model, profile, Emulation.attach(emulation.root, model))


def settings(root: Path) -> dict[str, str]:
    """Every setting of the tree and what its clocks are at."""
    names = ("governor", "_freq", "setspeed", "enable")
    files = [p for p in sorted((root / "sys").rglob("*")) if p.name.endswith(names) and not p.name.startswith(".")]
    return {str(p.relative_to(root)): p.read_text() for p in files}


def limits(root: Path) -> dict[str, str]:
    """Those that a controller sets, but for a clock's speed, which a governor has chosen."""
    return {k: v for k, v in settings(root).items() if k.endswith(("governor", "min_freq", "max_freq", "enable"))}


def full_speed(spec: BoardSpec) -> Knobs:
    """Two big cores, all clocks at their highest."""
    big = spec.big_unit
    return Knobs(rung=2, unit=big.name, cores=2, freqs_hz={c.name: c.max_hz for c in spec.clocks})
