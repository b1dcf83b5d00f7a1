"""What a network gives and costs once it is exported: accuracy, confidence and latency per rung, through ncnn."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyndnn.costs import FLOAT_BYTES, activation_bytes, macs, weight_count
from dyndnn.data import Dataset
from dyndnn.errors import NetworkError
from dyndnn.export import export_net
from dyndnn.files import make_folder, sha256
from dyndnn.ladder import LADDER_FILE, MODEL_FILES, InputInfo, Ladder, RungInfo, save_ladder
from dyndnn.netconfig import NetConfig
from dyndnn.nets import DynamicNet
from dyndnn.network import Network, softmax
from dyndnn.speed import latencies_s

Progress = Callable[[int, int], None]  # images done, of how many
TELL_EVERY = 100
MEASURED = ".measured-"  # begins the name of a folder with a ladder that is being measured


@dataclass(frozen=True)
class Score:
    """Of each rung, smallest first, over the same images."""

    accuracy: tuple[float, ...]  # top-1, 0..1
    confidence: tuple[float, ...]  # softmax confidence of the correct class, summed, as a share of the last rung's


@dataclass(frozen=True)
class Evaluation:
    """A ladder measured anew."""

    ladder: Ladder
    score: Score
    latencies_s: dict[int, list[float]]  # threads -> median of every rung

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headings and cells of a table with a row per rung."""
        heads = ("rung", "accuracy %", "confidence", "M MACs", "weights kB")
        times = tuple(f"ms, {n} thread{'s' * (n > 1)}" for n in self.latencies_s)
        rows = []
        for k, rung in enumerate(self.ladder.rungs):
            cells = [rung.name, f"{100 * self.score.accuracy[k]:.2f}", f"{self.score.confidence[k]:.3f}"]
            cells += [f"{rung.macs / 1e6:.1f}", f"{rung.bytes / 1e3:.0f}"]
            rows.append((*cells, *(f"{1e3 * found[k]:.3f}" for found in self.latencies_s.values())))
        return (*heads, *times), rows


def score(
    network: Network, images: NDArray[np.uint8], labels: NDArray[np.int64], on_progress: Progress | None = None
) -> Score:
    """Accuracy and confidence of all rungs over `images` (n, channels, height, width) with their `labels` (n,)."""
    if not len(images) or len(images) != len(labels):
        raise NetworkError.at("images", f"{len(images)} with {len(labels)} labels", want="as many, at least one")
    rungs = range(len(network.ladder.rungs))
    right, confidence = np.zeros(len(rungs)), np.zeros(len(rungs))
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        inference = network.begin(image)
        for k in rungs:
            logits = inference.upto(k)
            right[k] += logits.argmax() == label
            confidence[k] += softmax(logits)[label]
        if on_progress is not None and i % TELL_EVERY == TELL_EVERY - 1:
            on_progress(i + 1, len(images))
    return Score(tuple((right / len(images)).tolist()), tuple((confidence / confidence[-1]).tolist()))


def rung_names(config: NetConfig) -> tuple[str, ...]:
    """Names as people say them: the share of the channels, or of the multiply-accumulates where it differs by layer."""
    full = config.widths[-1]
    shares = [{round(100 * n / m) for n, m in zip(row, full, strict=True)} for row in config.widths]
    if all(max(found) - min(found) <= 1 for found in shares):  # rounding to whole channels apart
        percents = [min(found) for found in shares]
    else:
        percents = [round(100 * macs(config, k) / macs(config, config.rungs - 1)) for k in range(config.rungs)]
    names = tuple(f"{n}%" for n in percents)
    return names if len(set(names)) == len(names) else tuple(str(k + 1) for k in range(config.rungs))


def export_ladder(
    net: DynamicNet,
    directory: str | Path,
    *,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    names: Sequence[str] | None = None,
    half: bool = False,
) -> Ladder:
    """Export a network and write a ladder whose accuracies and confidences are 0 until somebody measures them."""
    config = net.config
    names = rung_names(config) if names is None else tuple(names)
    if len(names) != config.rungs:
        raise NetworkError.at("names", f"{len(names)} of them", want=f"one for each of {config.rungs} rungs")
    outputs = export_net(net, directory, half=half)
    rungs = tuple(
        RungInfo(
            name=names[k],
            output=outputs[k],
            groups=k + 1,
            accuracy=0.0,
            confidence=0.0,
            macs=macs(config, k),
            bytes=FLOAT_BYTES * weight_count(config, k),
            activation_bytes=activation_bytes(config, k),
        )
        for k in range(config.rungs)
    )
    frame = InputInfo(shape=config.input_shape, mean=tuple(mean), std=tuple(std))
    files = {file: sha256(Path(directory) / file) for file in MODEL_FILES}
    ladder = Ladder(name=name, input=frame, rungs=rungs, files=files)
    save_ladder(directory, ladder)
    return ladder


def write_ladder(
    net: DynamicNet,
    directory: str | Path,
    data: Dataset,
    *,
    name: str,
    names: Sequence[str] | None = None,
    half: bool = False,
    on_progress: Progress | None = None,
) -> Ladder:
    """Export a network and write its ladder, measured with the exported model on all of `data`'s test images.

    `names` of the rungs, smallest first (None: `rung_names`); `half`: see `export_net`.
    """
    folder = make_folder(directory)
    for left in folder.glob(f"{MEASURED}*"):  # by an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=MEASURED, dir=folder) as work:  # nobody sees a ladder half measured
        ladder = export_ladder(net, work, name=name, mean=data.mean, std=data.std, names=names, half=half)
        found = score(Network.load(work), data.test_images, data.test_labels, on_progress)
        measured = zip(ladder.rungs, found.accuracy, found.confidence, strict=True)
        ladder = replace(ladder, rungs=tuple(replace(r, accuracy=a, confidence=c) for r, a, c in measured))
        save_ladder(work, ladder)
        for file in (*MODEL_FILES, LADDER_FILE):
            (Path(work) / file).replace(folder / file)
    return ladder


def evaluate_ladder(
    directory: str | Path, data: Dataset, *, threads: Sequence[int] = (1,), on_progress: Progress | None = None
) -> Evaluation:
    """Measure a ladder's folder: accuracy and confidence on `data`'s test images, latency with each count of threads.

    Raises NetworkError where the ladder is not in order or is one of other images.
    """
    network = Network.load(directory)
    if network.ladder.input.shape != data.shape:
        shapes = f"takes frames of {network.ladder.input.shape}, {data.name} has {data.shape}"
        raise NetworkError.at(directory, shapes, want="the data it was trained on")
    times = {n: latencies_s(Network.load(directory, threads=n)) for n in threads}
    found = score(network, data.test_images, data.test_labels, on_progress)
    return Evaluation(network.ladder, found, times)
