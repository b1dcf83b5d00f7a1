"""Makes `gymnasium.make("powerband/XU3-v0")` work with no import of ours.

Gymnasium 1.x no longer loads plug-ins by entry point, so `powerband.pth`, installed beside the packages, calls
`install()` when an interpreter starts: it waits on the import path and registers the names when, and only when,
somebody imports `gymnasium.envs`. Standard library alone until then.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

IDS = {
    "powerband/XU3-v0": "xu3",
    "powerband/JetsonNano-v0": "jetson_nano",
    "powerband/RaspberryPi5-v0": "raspberry_pi_5",
    "powerband/Host-v0": "host",  # with profile="....csv", measured on this machine
}
_AWAITED = "gymnasium.envs"


def register_powerband() -> None:
    """Register every board's task; twice is fine."""
    from gymnasium.envs.registration import register, registry

    for name, board in IDS.items():
        if name not in registry:
            register(
                name,
                entry_point="envs.register:make_control_env",
                vector_entry_point="envs.register:make_vector_env",
                kwargs={"board": board},
            )


class _Waiting:
    """A finder that finds nothing itself: it lets the awaited module load and registers our names after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real spec of the awaited module with our call behind its execution; None for all others."""
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register_powerband()

        loader: Any = spec.loader
        loader.exec_module = execute_and_register
        return spec


def install() -> None:
    """Wait for `gymnasium.envs`; register at once where it is loaded already."""
    if _AWAITED in sys.modules:
        register_powerband()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())
