"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hw.real.emulation import Emulation
from hw.real.state import BOOT_ID, Hold
from hw.real.sysfs import Sysfs
from tests.emulated import model_of
from tests.machine import FILES, put


@pytest.fixture
def xu3() -> Iterator[Emulation]:
    """An emulated XU3 that stays when a board on it is closed."""
    emulation = Emulation.start(*model_of("xu3"))
    yield emulation
    emulation.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of a machine with a few settings."""
    put(tmp_path, FILES)
    put(tmp_path, {BOOT_ID: "boot-1"})
    return tmp_path


@pytest.fixture
def hold(root: Path) -> Iterator[Hold]:
    """A controller's hold on it, let go at the end."""
    hold = Hold(Sysfs(root), "xu3")
    yield hold
    hold.release()
