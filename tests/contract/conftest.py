"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw.real.emulated import Emulation
from tests.emulated import model_of


@pytest.fixture
def xu3() -> Iterator[Emulation]:
    """An emulated XU3 that stays when a board on it is closed."""
    emulation = Emulation.start(*model_of("xu3"))
    yield emulation
    emulation.close()
