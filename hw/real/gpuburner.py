"""Background load of a GPU: `python -m hw.real.gpuburner` says "ready", then reads lines SHARE until its input ends.

It runs convolutions by ncnn's Vulkan for that share of the time, in pieces that are short against a control interval.
Time is that which passes: a GPU tells a process of no time of its own, so beside other work waiting counts as well.
Where there is no GPU its first line says what is missing, and the exit status is 2.
"""

from __future__ import annotations

import math
import os
import select
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CHANNELS, KERNEL, LAYERS = 32, 64, 3, 16  # of the convolutions, one behind the other; 38 million MACs each
PIECE_S = 4e-3  # long against what handing it to the GPU takes, on a GPU with any clock
LATE_S = 0.02  # what a piece began later than it should is made up for, but not more


class Convolutions:
    """A chain of convolutions on the GPU; how many of them make a piece follows from how long the last one took."""

    def __init__(self, ncnn: Any) -> None:
        """Lay it out, by the module that has the GPU."""
        rng = np.random.default_rng(0)
        size = CHANNELS * CHANNELS * KERNEL**2
        lines = ["7767517", f"{LAYERS + 1} {LAYERS + 1}", f"Input in 0 1 b0 0={SIDE} 1={SIDE} 2={CHANNELS}"]
        weights = b""
        for k in range(LAYERS):
            shape = f"0={CHANNELS} 1={KERNEL} 4={KERNEL // 2} 5=0 6={size}"
            lines.append(f"Convolution c{k + 1} 1 1 b{k} b{k + 1} {shape}")
            # four bytes of nought say that floats follow; the spread keeps numbers as large as they came in
            spread = math.sqrt(CHANNELS * KERNEL**2)
            weights += bytes(4) + (rng.standard_normal(size, np.float32) / np.float32(spread)).tobytes()
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.use_vulkan_compute, self._net.opt.num_threads = True, 1
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):  # as the network's
            setattr(self._net.opt, name, False)
        with tempfile.TemporaryDirectory(prefix="powerband-") as folder:
            param, model = Path(folder, "load.param"), Path(folder, "load.bin")
            param.write_text("\n".join(lines) + "\n")
            model.write_bytes(weights)
            if self._net.load_param(str(param)) or self._net.load_model(str(model)):
                raise RuntimeError("ncnn does not read what was written for it")
        self._picture = rng.standard_normal((CHANNELS, SIDE, SIDE), np.float32)
        self._layers = 1

    def run(self) -> float:
        """One piece; how long it took (s)."""
        start_s = time.monotonic()
        extractor = self._net.create_extractor()
        extractor.input("b0", self._ncnn.Mat(self._picture))
        extractor.extract(f"b{self._layers}")
        took_s = max(time.monotonic() - start_s, 1e-6)
        self._layers = layers_for(took_s / self._layers)
        return took_s


def layers_for(layer_s: float) -> int:
    """How many layers make a piece where one takes so long."""
    return min(max(round(PIECE_S / layer_s), 1), LAYERS)


def next_start(due_s: float, now_s: float, took_s: float, share: float) -> float:
    """When the next piece begins, after one that was due then, ended now and took so long."""
    return max(due_s, now_s - took_s - LATE_S) + took_s / share


def burn(work: Convolutions) -> int:
    """Burn until standard input ends; the exit status."""
    work.run()  # the first one takes longer
    print("ready", flush=True)
    share, due_s, buffer = 0.0, 0.0, b""
    while True:
        left_s = None if share <= 0.0 else max(0.0, due_s - time.monotonic())
        if select.select([0], [], [], left_s)[0]:
            part = os.read(0, 4096)
            if not part:
                return 0
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                share, due_s = float(line), time.monotonic()
            if not math.isfinite(share):
                return 2
        else:
            took_s = work.run()
            due_s = next_start(due_s, time.monotonic(), took_s, share)


def main() -> int:
    """Find the GPU, and burn; the exit status."""
    try:
        import ncnn
    except ImportError:
        return _missing("ncnn is not installed; install it")
    if not hasattr(ncnn, "get_gpu_count"):
        return _missing("this ncnn was built without Vulkan; install a wheel of ncnn that has it")
    if ncnn.get_gpu_count() < 1:
        return _missing("no Vulkan device; install the Vulkan driver of this board's GPU")
    status = burn(Convolutions(ncnn))
    ncnn.destroy_gpu_instance()  # it crashes where the convolutions are still there; they went with `burn`
    return status


def _missing(what: str) -> int:
    print(what, flush=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
