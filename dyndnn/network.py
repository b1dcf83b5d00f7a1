"""A ladder that runs: frames in, logits of any rung out, by ncnn. Leans on NumPy and ncnn alone.

Every frame is an `Inference` of its own. Asking it for a larger rung than before computes what is missing
and no more where rungs are groups (dense rungs start again), so a result can be improved while there is time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray

from dyndnn.errors import NetworkError
from dyndnn.gpu import open_gpu
from dyndnn.ladder import BIN_FILE, PARAM_FILE, Ladder, load_ladder

INPUT = "in0"  # blob

Frame = NDArray[Any]  # (channels, height, width): uint8, or floats from 0 to 1
Logits = NDArray[np.float32]  # (classes,)


def open_net(
    param: str | Path,
    weights: str | Path,
    *,
    threads: int = 1,
    half: bool = False,
    lean: bool = False,
    gpu: bool = False,
) -> Any:
    """An `ncnn.Net` of a pair of files, on the CPU or on the GPU; NetworkError where ncnn refuses them.

    Single precision throughout, so that every processor gives the same logits to rounding; `half` lets ncnn keep
    and compute in 16 bits where the processor can. `lean` takes the smallest of Winograd's tiles: about half the
    memory, slower where all weights fit into the cache anyway, faster where they do not. Whoever had a net on the
    GPU ends with `dyndnn.gpu.close_gpu`; NetworkError where there is none.
    """
    if gpu:
        open_gpu()  # or ncnn would quietly compute on the CPU
    net = ncnn.Net()
    options = net.opt
    options.num_threads = threads
    options.lightmode = True  # what ncnn then frees as it goes no later extraction needs: every reader has a copy
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(options, name, half)
    options.use_bf16_storage = False
    options.use_winograd43_convolution = options.use_winograd63_convolution = not lean
    options.use_vulkan_compute = gpu
    for path, load in ((param, net.load_param), (weights, net.load_model)):
        if load(str(path)) != 0:
            raise NetworkError.at(path, "ncnn cannot read it", want="a file written by dyndnn.export")
    return net


class Inference:
    """One frame on its way up the ladder; not for two threads at once."""

    def __init__(self, net: Any, outputs: tuple[str, ...], pixels: NDArray[np.float32]) -> None:
        self._outputs = outputs
        self._pixels = pixels  # ncnn reads this memory whenever a group is added
        self._extractor = net.create_extractor()
        self._extractor.input(INPUT, ncnn.Mat(pixels))

    def upto(self, rung: int) -> Logits:
        """Logits of a rung (0 is the smallest); what smaller rungs computed before is not computed again."""
        status, logits = self._extractor.extract(self._outputs[rung])
        if status != 0:
            raise NetworkError.at(self._outputs[rung], f"ncnn gave up with status {status}")
        return np.array(logits, np.float32)


class Network:
    """A ladder loaded for serving."""

    def __init__(self, ladder: Ladder, net: Any) -> None:
        self.ladder = ladder
        self._net = net
        self._outputs = tuple(rung.output for rung in ladder.rungs)
        channels = (len(ladder.input.mean), 1, 1)
        std = np.reshape(ladder.input.std, channels)
        self._scale = (1.0 / std).astype(np.float32)
        self._byte_scale = (1.0 / (255.0 * std)).astype(np.float32)
        self._shift = (-np.reshape(ladder.input.mean, channels) / std).astype(np.float32)

    @classmethod
    def load(
        cls, directory: str | Path, *, threads: int = 1, half: bool = False, lean: bool = False, gpu: bool = False
    ) -> Network:
        """Load a ladder's folder (options: see `open_net`); NetworkError where anything about it is wrong."""
        folder = Path(directory)
        ladder = load_ladder(folder)
        net = open_net(folder / PARAM_FILE, folder / BIN_FILE, threads=threads, half=half, lean=lean, gpu=gpu)
        missing = {rung.output for rung in ladder.rungs} - set(net.output_names())
        if missing or INPUT not in net.input_names():
            blobs = ", ".join(sorted(missing)) or INPUT
            raise NetworkError.at(folder / PARAM_FILE, f"has no blob {blobs}", want="the one of its ladder.json")
        return cls(ladder, net)

    @property
    def threads(self) -> int:
        """How many threads compute a frame; ncnn fixes it when it loads the weights."""
        return int(self._net.opt.num_threads)

    def prepare(self, frame: Frame) -> NDArray[np.float32]:
        """A frame as the network wants it (a new array); NetworkError where it is not one of this network's."""
        want = self.ladder.input.shape
        if frame.shape != want:
            raise NetworkError.at("frame", "has another shape", value=frame.shape, want=f"{want} of this ladder")
        if frame.dtype == np.uint8:
            pixels = frame * self._byte_scale
        elif frame.dtype.kind == "f":
            if not (frame.min() >= 0.0 and frame.max() <= 1.0):  # false for NaN too
                raise NetworkError.at("frame", "holds numbers outside 0..1", want="floats from 0 to 1, or bytes")
            pixels = frame.astype(np.float32) * self._scale
        else:
            raise NetworkError.at("frame", "wrong type", value=str(frame.dtype), want="uint8, or floats from 0 to 1")
        pixels += self._shift
        return np.ascontiguousarray(pixels)

    def begin(self, frame: Frame) -> Inference:
        """Take a frame; nothing is computed yet. NetworkError where it does not fit."""
        return self.begin_prepared(self.prepare(frame))

    def begin_prepared(self, pixels: NDArray[np.float32]) -> Inference:
        """Take a frame that `prepare` made."""
        return Inference(self._net, self._outputs, pixels)

    def infer(self, frame: Frame, rung: str | int) -> Logits:
        """Logits of one frame on a rung, by name or by number from 1."""
        return self.begin(frame).upto(self.ladder.index(rung))


def softmax(logits: Logits) -> NDArray[np.float64]:
    """Probabilities of the classes, along the last axis."""
    raised = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float64)
