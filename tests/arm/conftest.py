"""An emulated Arm machine: its Python, and beside it a folder with what flies, as a remote flight would copy it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments._cargo import load_cargo
from tests.arm.tree import ARM64, ARMHF, Arch, Unavailable, python_of
from tests.e2e.deploying import policy_of

ABOARD = Path(__file__).with_name("aboard.py")
LIMIT_S = 300.0
LATE = "was not heard of"  # says a supervisor that ended a flight
TRIES = 3


@dataclass(frozen=True)
class Machine:
    """A Python with a copy of what flies: the emulated one, or this one with the same copy."""

    python: Path
    cargo: Path
    flight: tuple[str, ...]  # words that name policy and board

    def words(self, *more: object) -> list[str]:
        return [str(self.python), *map(str, more)]

    @property
    def environment(self) -> dict[str, str]:
        """What is imported is the copy."""
        return {**os.environ, "PYTHONPATH": str(self.cargo)}

    def start(self, *more: object) -> subprocess.Popen[str]:
        """A process, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.words(*more), cwd=self.cargo, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def end(self, *more: object) -> tuple[int, str, str]:
        """Run to the end: status, and what it says on both outputs."""
        process = self.start(*more)
        try:
            out, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            process.communicate()
        return process.returncode, out, errors

    def run(self, *more: object) -> str:
        """What it prints; it succeeds."""
        status, out, errors = self.end(*more)
        assert status == 0, errors
        return out

    def aboard(self, *more: object) -> str:
        """The same, of the script with what the tests ask."""
        return self.run(ABOARD, *more)

    def fly(self, *more: object) -> str:
        """A flight, as a remote one is started; succeeds.

        A supervisor counts real seconds. On a busy machine an emulator can be too slow for it: then once more.
        """
        words = ("-m", "experiments.deploy_policy", *self.flight, *more)
        for _ in range(TRIES):
            status, out, errors = self.end(*words)
            if LATE not in errors:
                break
            print(errors)
        assert (status, errors) == (0, "")
        return out


@pytest.fixture(scope="session", params=[ARMHF, ARM64], ids=lambda arch: arch.machine)
def arch(request: pytest.FixtureRequest) -> Arch:
    """Each architecture in turn."""
    found: Arch = request.param
    return found


@pytest.fixture(scope="session")
def arm(arch: Arch, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The emulated machine; skips where it cannot be had."""
    try:
        python = python_of(arch)
    except Unavailable as reason:
        pytest.skip(str(reason))
    folder = tmp_path_factory.mktemp(arch.board)
    policy = policy_of(arch.board, 3, folder / "policy.npz")
    cargo = folder / "cargo"
    words = load_cargo(cargo, policy=str(policy), board=arch.board, profile=None, scenario=None, fallback=None)
    return Machine(python, cargo, tuple(words))


@pytest.fixture(scope="session")
def here(arm: Machine) -> Machine:
    """This machine, with the same copy."""
    return Machine(Path(sys.executable), arm.cargo, arm.flight)


@pytest.fixture
def tell(arch: Arch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a finding; whatever time is in it is the emulator's."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{arch.machine} under {arch.qemu}: {text}")

    return say
