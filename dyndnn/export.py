"""From torch to ncnn: one pair of files, `model.param` and `model.bin`, in which rung k is the output `out<k-1>`.

pnnx does the translation, batch norm folded into the convolutions before it. What that means per connectivity:

- `group`, `nested`: every rung is a prefix of the next. ncnn extracts lazily, so asking for rung k runs the first k
  groups and nothing else; a switch costs nothing, every weight is in memory once, and a second extraction from the
  same extractor adds what is missing to a larger rung (anytime).
- `slimmable`: a rung's weights are a corner of the dense ones, and its batch norm is its own, so after folding no
  two rungs have a weight in common. The pair of files has one branch per rung: a switch still costs nothing, but
  four uniform widths take 1 + 4 + 9 + 16 sixteenths, 1.9 times the weights of the full net, and an upgrade computes the
  larger rung from the start. ncnn can share the weights (convolutions that take a slice of one blob as an input);
  it was tried on the 64-192-384-256-256 net: memory 1.0 instead of 1.9, every rung 7 to 13 times slower, because
  ncnn then lays out the weights anew in every frame and batch norm stays a layer of its own. Hence branches.
"""

from __future__ import annotations

import copy
import io
import os
import subprocess
import tempfile
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pnnx
import torch
from torch import Tensor, nn

from dyndnn.errors import NetworkError
from dyndnn.files import atomic_write, make_folder
from dyndnn.ladder import BIN_FILE, PARAM_FILE
from dyndnn.nets import DynamicNet
from dyndnn.network import Inference, open_net
from dyndnn.param import needed, read_param

TOLERANCE = 1e-3  # of the largest logit; single precision comes to about 1e-6
HALF_TOLERANCE = 2e-2  # weights rounded to 11 bits
CHECKED_FRAMES = 4
PNNX_TIMEOUT_S = 600.0


def export_net(net: DynamicNet, directory: str | Path, *, half: bool = False) -> tuple[str, ...]:
    """Write `model.param` and `model.bin` into `directory` and return the output blob of every rung.

    `half` stores the weights as 16-bit floats: half the file, the same memory and speed, logits off by about 1e-3.
    The files are verified (ncnn's logits against torch's, each group or nested rung a prefix of the next) before they
    are put in place.

    Raises:
        NetworkError: pnnx or ncnn cannot take the network, or the logits differ.
    """
    folder = make_folder(directory)
    outputs = tuple(f"out{k}" for k in range(net.config.rungs))
    still = copy.deepcopy(net).cpu().float().eval()
    with tempfile.TemporaryDirectory(prefix="powerband-export-") as name:
        work = Path(name)
        param, weights = _convert(_AllRungs(still), net.config.input_shape, work, half=half)
        difference = _difference(still, param, weights, outputs)
        if not difference <= (HALF_TOLERANCE if half else TOLERANCE):
            raise NetworkError.at("export", f"ncnn's logits differ from torch's by {difference:.1e} of the largest")
        if net.config.connectivity != "slimmable":
            _check_prefix(param, outputs)
        atomic_write(folder / BIN_FILE, weights.read_bytes())
        atomic_write(folder / PARAM_FILE, param.read_bytes())
    return outputs


class _AllRungs(nn.Module):
    """Every rung of a network in one forward pass with an output each, smallest first."""

    def __init__(self, net: DynamicNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of all rungs."""
        return tuple(self.net.forward_upto(x, self.net.config.rungs - 1))


def _convert(model: nn.Module, shape: tuple[int, int, int], work: Path, *, half: bool) -> tuple[Path, Path]:
    """Trace `model` and translate the trace in the folder `work`; the two files of ncnn."""
    traced = work / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing remarks on shape checks, which hold for every frame
        trace: Any = torch.jit.trace  # torch has no types for it
        stream = io.BytesIO()  # torch's own writer aborts the process where the disk is full
        torch.jit.save(trace(model, torch.zeros(1, *shape)), stream)
    atomic_write(traced, stream.getvalue())
    size = ",".join(str(n) for n in (1, *shape))
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}  # it has little to compute, and spins where others want the cores
    command = [pnnx.EXEC_PATH, traced.name, f"inputshape=[{size}]", f"fp16={int(half)}"]
    try:
        done = subprocess.run(command, cwd=work, env=quiet, capture_output=True, text=True, timeout=PNNX_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkError.at(pnnx.EXEC_PATH, f"cannot translate the network: {error}") from None
    param, weights = work / "net.ncnn.param", work / "net.ncnn.bin"
    if done.returncode != 0 or not (param.is_file() and weights.is_file()):
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise NetworkError.at("pnnx", f"left with status {done.returncode}: {last}")
    return param, weights


def _difference(net: DynamicNet, param: Path, weights: Path, outputs: tuple[str, ...]) -> float:
    """The largest difference of a logit between torch and ncnn over a few random frames, per largest logit."""
    served = open_net(param, weights)
    missing = set(outputs) - set(served.output_names())
    if missing:
        raise NetworkError.at("pnnx", f"made a model without {', '.join(sorted(missing))}")
    frames = np.random.default_rng(0).standard_normal((CHECKED_FRAMES, *net.config.input_shape), np.float32)
    with torch.inference_mode():
        wanted = [logits.numpy() for logits in net.forward_upto(torch.from_numpy(frames), net.config.rungs - 1)]
    differences = []
    for k, want in enumerate(wanted):
        found = np.stack([Inference(served, outputs, frame).upto(k) for frame in frames])
        differences.append(np.abs(found - want).max() / max(1.0, np.abs(want).max()))
    return float(np.max(differences))  # NaN where one is


def _check_prefix(param: Path, outputs: tuple[str, ...]) -> None:
    """NetworkError where a rung needs a convolution that the next one does not."""
    layers = read_param(param)
    kernels = [{x.name for x in needed(layers, output) if x.kind == "Convolution"} for output in outputs]
    for k, (small, large) in enumerate(pairwise(kernels), 1):
        if not small < large:
            raise NetworkError.at("pnnx", f"made a model whose rung {k} is not a prefix of rung {k + 1}")
