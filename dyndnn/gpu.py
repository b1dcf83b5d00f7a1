"""The GPU as ncnn reaches it, through Vulkan: whether there is one, and how a process lets go of it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

import ncnn

from dyndnn.errors import NetworkError

CPU_TYPE = 3  # ncnn's number for a Vulkan device that is a program on the CPU


def open_gpu(*, hardware: bool = False) -> str:
    """What Vulkan calls the device that ncnn takes; the first call takes about a second.

    Raises NetworkError where there is none or, with `hardware`, where the only one computes on the CPU.
    """
    if not hasattr(ncnn, "get_gpu_count"):
        raise NetworkError.at("GPU", "this ncnn was built without Vulkan", want="install a wheel of ncnn that has it")
    with _heard() as stream:
        count = ncnn.get_gpu_count()
        stream.seek(0)
        said = stream.read().decode("utf-8", "replace").split("\n")
    if count < 1:
        why = next((f" ({line.strip()})" for line in reversed(said) if line.strip()), "")
        raise NetworkError.at("GPU", f"no Vulkan device{why}", want="install the Vulkan driver of this board's GPU")
    info = ncnn.get_gpu_info(ncnn.get_default_gpu_index())
    name = str(info.device_name())
    if hardware and info.type() == CPU_TYPE:
        want = "install the Vulkan driver of this board's GPU"
        raise NetworkError.at("GPU", "Vulkan's only device computes on the CPU", value=name, want=want)
    return name


def close_gpu() -> None:
    """Let go of the device; the last thing a process does with it, and nothing where it never did.

    No network on the GPU may be alive any more and no inference of one, not even in a traceback: each of them gives
    its memory back to the device, and crashes where that has gone.
    """
    if hasattr(ncnn, "destroy_gpu_instance"):
        ncnn.destroy_gpu_instance()


@contextlib.contextmanager
def _heard() -> Iterator[IO[bytes]]:
    """What is written to standard error meanwhile: ncnn and drivers list the device there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as stream:
        os.dup2(stream.fileno(), 2)
        try:
            yield stream
        finally:
            os.dup2(kept, 2)
            os.close(kept)
