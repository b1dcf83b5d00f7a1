"""The machine a network is trained on: its device, what it computes fast, and the versions for the record."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np
import torch

from dyndnn.errors import NetworkError


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; NetworkError on a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a device without storage cannot
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        problem = f"cannot be used: {str(error).splitlines()[0]}"
        raise NetworkError.at("device", problem, value=name, want="auto, cpu or cuda") from None
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated it would be slower than single precision."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    flags = dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))


def describe(device: torch.device) -> dict[str, Any]:
    """What decides how long a training takes."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "threads": torch.get_num_threads(), "bfloat16": has_bfloat16(device)}


def versions() -> dict[str, str]:
    """Versions of what decides a training."""
    try:
        own = importlib.metadata.version("powerband")
    except importlib.metadata.PackageNotFoundError:  # run from a clone that was never installed
        own = "unknown"
    return {"powerband": own, "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
