"""How fast a ladder is, in ratios that hold on any machine: what is compared takes turns, medians of many frames."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from dyndnn.costs import FLOAT_BYTES
from dyndnn.errors import NetworkError
from dyndnn.ladder import BIN_FILE, PARAM_FILE, load_ladder
from dyndnn.nets import DynamicNet
from dyndnn.network import Frame, Network
from dyndnn.param import needed, read_param

ROUNDS = 12
BLOCK = 25  # frames of one side before the other has its turn
SETTLE = 3  # frames at the start of a block that are not counted
STAY = 4  # frames between two switches
CLOCK_HZ = 200.0  # of frames between which a switch is measured
VISITS = 30  # of every pair of rungs


def random_frames(network: Network, count: int = 16) -> list[Frame]:
    """Frames of noise: speed does not depend on what is in a frame, nor on the weights."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, network.ladder.input.shape, np.uint8) for _ in range(count)]


def take_turns(sides: Sequence[Callable[[int], object]], rounds: int = ROUNDS, block: int = BLOCK) -> list[float]:
    """Median seconds of one call of each side; calls are numbered."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for call, mine in zip(sides, times, strict=True):
            for i in range(SETTLE + block):
                start_s = time.perf_counter()
                call(i)
                took_s = time.perf_counter() - start_s
                if i >= SETTLE:
                    mine.append(took_s)
    return [median(mine) for mine in times]


def latencies_s(network: Network, rounds: int = ROUNDS) -> list[float]:
    """Median seconds of a frame on every rung, from its bytes to its logits, each rung by itself."""
    frames = random_frames(network)
    sides = [_server(network, frames, k) for k in range(len(network.ladder.rungs))]
    return take_turns(sides, rounds)


def beside_torch_s(network: Network, net: DynamicNet, rounds: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Median seconds of a frame on every rung: ncnn's, and torch's in eager mode, in turns.

    Both begin with normalised pixels; the caller sets torch's threads (1, as a fair comparison needs).
    """
    frames = [network.prepare(frame) for frame in random_frames(network)]
    tensors = [torch.from_numpy(frame[None]) for frame in frames]
    net = net.eval()
    rungs = range(len(network.ladder.rungs))
    ours = [_pixels_server(network, frames, k) for k in rungs]
    with torch.inference_mode():
        theirs = [_torch_server(net, tensors, k) for k in rungs]
        times = take_turns([side for pair in zip(ours, theirs, strict=True) for side in pair], rounds)
    return times[0::2], times[1::2]


def switch_ratio(network: Network, rate_hz: float | None = CLOCK_HZ, visits: int = VISITS) -> float:
    """Median time of a rung's first frame after a switch from another rung / of its frames after that; all rungs.

    NaN where there is one rung only.

    Frames arrive at `rate_hz`, or (None) back to back. Back to back, a processor with a large cache still holds the
    weights that the frame before used, and a switch, as any pause or other process, finds some of them gone.
    """
    frames = random_frames(network)
    servers = [_server(network, frames, k) for k in range(len(network.ladder.rungs))]
    pairs = list(permutations(range(len(servers)), 2))
    if not pairs:
        return math.nan
    first: list[list[float]] = [[] for _ in servers]
    later: list[list[float]] = [[] for _ in servers]
    rng = np.random.default_rng(0)
    for _ in range(visits):
        for n in rng.permutation(len(pairs)):
            before, after = pairs[n]
            for i in range(2 * STAY):
                if rate_hz is not None:
                    time.sleep(1 / rate_hz)
                start_s = time.perf_counter()
                servers[before if i < STAY else after](i)
                took_s = time.perf_counter() - start_s
                if i >= STAY:
                    (first if i == STAY else later)[after].append(took_s)
    return median(took_s / median(other) for one, other in zip(first, later, strict=True) for took_s in one)


def upgrade_ratios(network: Network, frames_per_rung: int = 600) -> list[float]:
    """For every rung but the last: what an upgrade to the next costs / (what the next costs - what it costs)."""
    frames = random_frames(network)
    ratios = []
    for k in range(len(network.ladder.rungs) - 1):
        times: tuple[list[float], ...] = ([], [], [])
        for i in range(frames_per_rung):
            frame = frames[i % len(frames)]
            a_s = time.perf_counter()
            inference = network.begin(frame)
            inference.upto(k)
            b_s = time.perf_counter()
            inference.upto(k + 1)
            c_s = time.perf_counter()
            network.begin(frame).upto(k + 1)
            d_s = time.perf_counter()
            for mine, took_s in zip(times, (b_s - a_s, c_s - b_s, d_s - c_s), strict=True):
                mine.append(took_s)
        small_s, upgrade_s, large_s = (median(mine) for mine in times)
        ratios.append(upgrade_s / (large_s - small_s))
    return ratios


def rung_bytes(directory: str | Path) -> list[int]:
    """Bytes of weights that each rung needs, in single precision, counted in the model file."""
    folder = Path(directory)
    layers = read_param(folder / PARAM_FILE)
    rungs = load_ladder(folder, check_files=False).rungs
    return [FLOAT_BYTES * sum(layer.weights for layer in needed(layers, rung.output)) for rung in rungs]


_RESIDENT = """
import sys
from dyndnn.network import open_net

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

before = resident()
net = open_net(*sys.argv[1:])
print(resident() - before)
"""


def resident_bytes(directory: str | Path) -> int:
    """By how much a fresh process grows when it loads the model; ncnn keeps weights laid out for speed, so more."""
    files = [str(Path(directory).absolute() / name) for name in (PARAM_FILE, BIN_FILE)]
    done = subprocess.run(
        [sys.executable, "-c", _RESIDENT, *files], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise NetworkError.at(directory, f"cannot be loaded: {done.stderr.strip().splitlines()[-1]}")
    return int(done.stdout)


def _server(network: Network, frames: list[Frame], rung: int) -> Callable[[int], object]:
    return lambda i: network.begin(frames[i % len(frames)]).upto(rung)


def _pixels_server(network: Network, frames: list[NDArray[np.float32]], rung: int) -> Callable[[int], object]:
    return lambda i: network.begin_prepared(frames[i % len(frames)]).upto(rung)


def _torch_server(net: DynamicNet, tensors: list[torch.Tensor], rung: int) -> Callable[[int], object]:
    return lambda i: net(tensors[i % len(tensors)], rung)
