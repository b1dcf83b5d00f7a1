"""The text of an ncnn model (`model.param`) as a graph: which layers, and how many weights, an output needs.

ncnn computes lazily: extracting a blob runs the layers that lead to it and no other. So what a rung costs, and that
a smaller rung is a prefix of a larger one, can be read off the file. Leans on the standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dyndnn.costs import FLOAT_BYTES
from dyndnn.errors import NetworkError
from dyndnn.files import read_bytes
from dyndnn.ladder import PARAM_FILE

MAGIC = "7767517"


@dataclass(frozen=True)
class Layer:
    """One line of the file; `params` are ncnn's numbered parameters as text."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, str]

    @property
    def weights(self) -> int:
        """Numbers that this layer has in `model.bin`: its kernel and its bias."""
        if self.kind == "Convolution":
            return int(self.params["6"]) + int(self.params["0"]) * int(self.params.get("5", "0"))
        if self.kind == "InnerProduct":
            return int(self.params["2"]) + int(self.params["0"]) * int(self.params.get("1", "0"))
        return 0


def read_param(path: str | Path) -> list[Layer]:
    """The layers of a `model.param` in the order of the file; NetworkError where it is not one."""
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    if len(lines) < 3 or lines[0].strip() != MAGIC:
        raise NetworkError.at(path, "is not an ncnn model", want=f"its first line is {MAGIC}")
    layers = []
    for number, line in enumerate(lines[2:], 3):
        words = line.split()
        if not words:
            continue
        try:
            into, out = int(words[2]), int(words[3])
            blobs, params = words[4 : 4 + into + out], words[4 + into + out :]
            pairs = [word.partition("=") for word in params]
            layer = Layer(words[0], words[1], tuple(blobs[:into]), tuple(blobs[into:]), {k: v for k, _, v in pairs})
        except (IndexError, ValueError):
            raise NetworkError.at(f"{path}:{number}", "is not a layer of an ncnn model") from None
        layers.append(layer)
    return layers


def model_bytes(directory: str | Path) -> int:
    """Bytes of weights of all rungs together, in single precision, each counted once; of a ladder's folder.

    Raises NetworkError where it holds no ncnn model.
    """
    return FLOAT_BYTES * sum(layer.weights for layer in read_param(Path(directory) / PARAM_FILE))


def needed(layers: list[Layer], output: str) -> list[Layer]:
    """The layers that the blob `output` depends on: all that ncnn runs to extract it."""
    wanted = {output}
    found = []
    for layer in reversed(layers):  # the file is in the order of computation
        if wanted & set(layer.outputs):
            found.append(layer)
            wanted |= set(layer.inputs)
    return found[::-1]
