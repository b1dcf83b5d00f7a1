"""A Vulkan device where the machine has one, and none where a test wants none."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

NO_DRIVER = {**os.environ, "VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"}
NO_DEVICE = "no Vulkan device"


@functools.cache
def _devices() -> str:
    """In a process of its own: looking takes a second, and whoever looks has the driver in it until its end."""
    code = "import ncnn; print(ncnn.get_gpu_count() if hasattr(ncnn, 'get_gpu_count') else 0)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip()


def need_vulkan() -> None:
    """Skip the test where no Vulkan device is found."""
    if _devices() in ("", "0"):
        pytest.skip("ncnn finds no Vulkan device; a driver that computes on the CPU (Mesa's lavapipe) is enough")
