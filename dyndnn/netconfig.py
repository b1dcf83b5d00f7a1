"""The shape of a dynamic network as data; leans on the standard library alone.

Two families, three connectivities, and nothing else: a rung is a row of channel counts.

| family | convolutions | free layers (the columns of `widths`) |
|---|---|---|
| `alexnet` | five, 3x3; pools after the 1st, 2nd and last; global average; one classifier | the five |
| `resnet20` | 3x3 stem, 3 stages x 3 blocks x 2, strides 1, 2, 2; global average; one classifier | 3 stage widths |
|  | (1x1 projections where a stage begins anew), He et al. 2016, section 4.2 | + 9 inner widths, block by block |

The stem and all blocks of a stage add up, so they share one width; inside a block the width is free. Rows of
another length make the same families shallower or deeper: an `alexnet` of 8 layers, a `resnet20` of 3 + 27 (ResNet-56).

| connectivity | group j of a layer sees | source |
|---|---|---|
| `group` | group j of the layer before (the first layer: the image) | Xun et al., MLCAD 2019 |
| `nested` | groups 1..j of the layer before | Tann et al., 2016 |
| `slimmable` | rung k is the first channels of one dense layer; batch-norm statistics per rung | Yu et al., ICLR 2019 |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from dyndnn.errors import NetworkError

Family = Literal["alexnet", "resnet20"]
Connectivity = Literal["group", "nested", "slimmable"]
Head = Literal["added", "own"]

STAGES = 3  # of resnet20
MAX_WIDTH, MAX_RUNGS, MAX_LAYERS = 4096, 64, 192  # a file that asks for more is damaged


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """A network: its family, how its groups are connected, and its channels per rung and layer.

    Raises NetworkError where the fields contradict each other.
    """

    family: Family
    connectivity: Connectivity
    widths: tuple[tuple[int, ...], ...]  # (rungs, layers): channels of each free layer, smallest rung first
    classes: int = 10
    input_shape: tuple[int, int, int] = (3, 32, 32)  # channels, height, width
    stem_kernel: int = 3  # of the first convolution; ImageNet's AlexNet: 11, ResNets: 7
    stem_stride: int = 1  # of the first convolution; ImageNet's AlexNet: 4, ResNets: 2
    # Max pools come after these convolutions (resnet20: 1, the stem); None: what suits 32x32, see above
    pools: tuple[int, ...] | None = None
    pool_kernel: int = 2  # of the max pools, whose stride is 2; ImageNet: 3
    # Logits of rung k: `added` is the sum over columns 1..k of one classifier, `own` a classifier per rung
    head: Head = "added"

    def __post_init__(self) -> None:
        for name, choices in (("family", Family), ("connectivity", Connectivity), ("head", Head)):
            if getattr(self, name) not in get_args(choices):
                want = f"one of {', '.join(get_args(choices))}"
                raise NetworkError.at(name, "unknown", value=getattr(self, name), want=want)
        self._check_widths()
        for name, low, high in (
            ("classes", 2, 10**5),
            ("stem_kernel", 1, 31),
            ("stem_stride", 1, 16),
            ("pool_kernel", 1, 7),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise NetworkError.at(name, "out of range", value=value, want=f"a number from {low} to {high}")
        if len(self.input_shape) != 3 or not all(type(n) is int and 1 <= n <= MAX_WIDTH for n in self.input_shape):
            raise NetworkError.at("input_shape", "no shape", value=self.input_shape, want="(channels, height, width)")
        convs = self.layers if self.family == "alexnet" else 1
        if not all(type(n) is int and 1 <= n <= convs for n in self.pool_after):
            raise NetworkError.at("pools", "no such convolution", value=self.pools, want=f"from 1 to {convs}")
        convolutions(self)  # refuses an image too small for its pools

    def _check_widths(self) -> None:
        if not 1 <= len(self.widths) <= MAX_RUNGS:
            raise NetworkError.at("widths", f"{len(self.widths)} rungs", want=f"from 1 to {MAX_RUNGS}")
        layers, least = self.layers, 2 if self.family == "alexnet" else 2 * STAGES
        if not least <= layers <= MAX_LAYERS or (self.family == "resnet20" and layers % STAGES):
            want = (
                "at least 2 layers" if self.family == "alexnet" else "3 stage widths, then as many inner ones per stage"
            )
            raise NetworkError.at("widths of rung 1", f"do not suit {self.family}", value=self.widths[0], want=want)
        more = 0 if self.connectivity == "slimmable" else 1  # a group without channels would be a dead end
        before = (0,) * layers
        for k, row in enumerate(self.widths, 1):
            if len(row) != layers or not all(type(n) is int and 1 <= n <= MAX_WIDTH for n in row):
                want = f"{layers} counts from 1 to {MAX_WIDTH}"
                raise NetworkError.at(f"widths of rung {k}", "not a row of channel counts", value=row, want=want)
            if not all(n - b >= more for n, b in zip(row, before, strict=True)) or row == before:
                want = "at least one channel more in every layer" if more else "no layer narrower, one wider"
                raise NetworkError.at(f"widths of rung {k}", f"do not grow from {before}", value=row, want=want)
            before = row

    @property
    def rungs(self) -> int:
        """How many rungs there are."""
        return len(self.widths)

    @property
    def layers(self) -> int:
        """How many free layers there are."""
        return len(self.widths[0])

    @property
    def blocks(self) -> int:
        """How many blocks a stage of a resnet20 has: 3 make it a ResNet-20."""
        return self.layers // STAGES - 1

    @property
    def pool_after(self) -> tuple[int, ...]:
        """The convolutions (the first is 1) that a max pool follows."""
        if self.pools is not None:
            return self.pools
        return (1, 2, self.layers) if self.family == "alexnet" else ()

    @property
    def feature_layer(self) -> int:
        """The column of `widths` that the classifier sees."""
        return self.layers - 1 if self.family == "alexnet" else STAGES - 1

    @property
    def features(self) -> tuple[int, ...]:
        """What the classifier sees, per rung."""
        return tuple(row[self.feature_layer] for row in self.widths)

    def to_json(self) -> dict[str, object]:
        """Plain lists, numbers and strings."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: object, where: str = "network") -> NetConfig:
        """The inverse of `to_json`; NetworkError naming `where` and the entry that is wrong."""
        names = {f.name for f in fields(cls)}
        if not isinstance(found, Mapping):
            raise NetworkError.at(where, "is not an object")
        for name in sorted(set(found) - names) + [n for n in ("family", "connectivity", "widths") if n not in found]:
            raise NetworkError.at(f"{where}, entry {name!r}", "unknown" if name in found else "missing")
        entries: dict[str, Any] = dict(found)
        try:
            for name in ("input_shape", "pools"):
                if entries.get(name) is not None:
                    entries[name] = tuple(entries[name])
            entries["widths"] = tuple(tuple(row) for row in entries["widths"])
            return cls(**entries)
        except NetworkError as error:
            raise NetworkError(f"{where}: {error}") from None
        except TypeError as error:
            raise NetworkError.at(where, f"an entry has the wrong type: {error}") from None


@dataclass(frozen=True)
class Convolution:
    """One convolution of the plan, its channels left to the rung."""

    name: str
    source: int | None  # column of `widths` that it reads; None: the image
    target: int  # column of `widths` that it writes
    kernel: int
    stride: int
    height: int  # of its output
    width: int


def convolutions(config: NetConfig) -> list[Convolution]:
    """Every convolution in the order of computation; NetworkError where the image vanishes on the way."""
    _, height, width = config.input_shape
    plan: list[Convolution] = []

    def convolve(name: str, source: int | None, target: int, kernel: int, stride: int) -> None:
        nonlocal height, width
        height, width = ((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in (height, width))
        plan.append(Convolution(name, source, target, kernel, stride, height, width))

    def pool(after: int) -> None:
        nonlocal height, width
        if after in config.pool_after:
            height, width = ((n - config.pool_kernel) // 2 + 1 for n in (height, width))
        if min(height, width) < 1:
            want = "a larger input_shape, or fewer pools"
            raise NetworkError.at(
                "input_shape", f"nothing is left after pool {after}", value=config.input_shape, want=want
            )

    convolve("stem", None, 0, config.stem_kernel, config.stem_stride)
    pool(1)
    if config.family == "alexnet":
        for layer in range(1, config.layers):
            convolve(f"conv{layer + 1}", layer - 1, layer, 3, 1)
            pool(layer + 1)
        return plan
    for stage in range(STAGES):
        for block in range(config.blocks):
            inner = STAGES + stage * config.blocks + block
            stride = 2 if stage and not block else 1
            before = stage - 1 if stage and not block else stage
            prefix = f"stage{stage + 1}_block{block + 1}"
            convolve(f"{prefix}_conv1", before, inner, 3, stride)
            convolve(f"{prefix}_conv2", inner, stage, 3, 1)
            if before != stage:
                plan.append(Convolution(f"{prefix}_projection", before, stage, 1, stride, height, width))
    return plan


def alone(config: NetConfig, rung: int) -> NetConfig:
    """The network that is rung `rung` (0-based) and smaller ones only: what a net trained alone is.

    Dense rungs become a network of one rung; group and nested ones keep the smaller groups, which are part of them.
    """
    first = rung if config.connectivity == "slimmable" else 0
    return replace(config, widths=config.widths[first : rung + 1])


def shares_of(channels: tuple[int, ...], shares: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    """Uniform rungs: the same share of every layer's channels, rounded, at least one."""
    return tuple(tuple(max(1, math.floor(n * share + 0.5)) for n in channels) for share in shares)


def free_layers(family: Family, channels: tuple[int, ...], blocks: int = 3) -> tuple[int, ...]:
    """Channels of every free layer from the ones a person names: alexnet's layers, or resnet20's three stages.

    A resnet20 has `blocks` blocks per stage; its inner widths are those of their stage. Raises NetworkError on
    another count of stages.
    """
    if family == "alexnet":
        return channels
    if len(channels) != STAGES:
        raise NetworkError.at("channels", f"do not suit {family}", value=channels, want="3 counts, one per stage")
    return channels + tuple(n for n in channels for _ in range(blocks))
