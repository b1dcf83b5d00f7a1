"""Everything that decides a training run, apart from the torch that runs it: a command line reads it quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from dyndnn.data import DataName
from dyndnn.errors import NetworkError
from dyndnn.netconfig import Connectivity, Family, Head, NetConfig, free_layers, shares_of

Scheme = Literal["incremental", "multi_path", "single_path", "joint", "alone"]
Plan = Literal["uniform", "nonuniform"]
Padding = Literal["zero", "reflect"]
Draw = Literal["epoch", "batch"]
STAGED: tuple[Scheme, ...] = ("incremental", "multi_path")  # have a stage per rung, the others one

# What a data set's images allow: their shape, and whether left and right may be exchanged
SHAPES: dict[str, tuple[int, int, int]] = {"cifar10": (3, 32, 32), "digits": (1, 8, 8)}
MIRRORS = {"cifar10": True, "digits": False}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A network, a scheme and a recipe. Raises NetworkError on a value that makes no sense."""

    data: DataName = "cifar10"
    """data set"""
    net: Family = "alexnet"
    """family of the network"""
    connectivity: Connectivity = "group"
    """how groups are joined: block-diagonal, lower-triangular, or prefixes of dense layers"""
    scheme: Scheme = "incremental"
    """group after group with the earlier ones frozen; a run per rung of nested weights; one run with rungs drawn;
    one run with several rungs in every step; or one rung by itself, to compare with"""

    channels: tuple[int, ...] = (64, 192, 384, 256, 256)
    """of the largest rung: alexnet's layers (as many as are named), or resnet20's three stages"""
    blocks: int = 3
    """resnet20: blocks per stage (3 make a ResNet-20, 9 a ResNet-56)"""
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """of the channels, per rung; where the plan is non-uniform, the MACs of these shares are the budgets"""
    plan: Plan = "uniform"
    """the same share of every layer, or channels chosen by a global ranking under the same MACs"""
    head: Head = "added"
    """logits: columns of one classifier added up, or a classifier per rung on all its features"""
    widths_from: str = ""
    """run folder or ladder from which channels per rung and layer are taken, in place of channels, shares and plan"""
    rung: int = 0
    """scheme alone: the rung that is trained (0: the largest)"""

    epochs: tuple[int, ...] = (30,)
    """per group (incremental), per rung (multi_path), or of the one run; one number serves for all"""
    batch: int = 256
    """images per step"""
    parts: int = 1
    """into which a step's images are split, each with batch statistics of its own; side by side on as many cores"""
    learning_rate: float = 0.2
    """at the peak of the cycle: up in a line, down in a half cosine"""
    warmup: float = 0.15
    """share of the steps before the peak"""
    momentum: float = 0.9
    """of stochastic gradient descent, after Nesterov"""
    weight_decay: float = 5e-4
    """of kernels and classifiers"""
    label_smoothing: float = 0.0
    """share of the target that is spread over all classes"""
    ema: float = 0.0
    """decay per step of an average of the weights, which replaces them in the end (0: no average)"""

    crop: int = 4
    """pixels by which images are padded before a random crop of their own size"""
    padding: Padding = "reflect"
    """what the crop sees outside of the image: its mirror image, or the mean pixel"""
    flip: bool = True
    """mirror every second image, where the data set allows it"""
    cutout: int = 0
    """side of a square that is hidden at random"""
    color: float = 0.0
    """random contrast and brightness, as a share of the standard deviation"""

    alone: float = 0.5
    """incremental: share of a new group's training in which it learns to classify by itself, and a nested one reads
    its own channels only; after it, what all groups say together is trained. Without it a group finds little left to
    learn, and learns little"""
    teacher: str = ""
    """run folder of a network whose largest rung teaches"""
    teacher_weight: float = 0.7
    """of the teacher's part of the loss; the labels have the rest"""
    temperature: float = 2.0
    """of the teacher's and the pupil's probabilities"""
    draw: Draw = "batch"
    """single_path: how often a rung is drawn"""
    turns: tuple[int, ...] = ()
    """single_path: how many turns each rung has in a round, the smallest first; none: one each"""
    sandwich: int = 3
    """joint, dense rungs: how many rungs a step trains: the largest, the smallest, and random ones between"""
    ranking_epochs: int = 10
    """non-uniform: epochs of the full network whose channels are ranked"""
    ranking_cost: float = 1.0
    """non-uniform: how much a channel's MACs count against it: score / MACs ** this"""
    ranking_step: int = 1
    """non-uniform: channels come so many at a time. Processors pack 4 or 8: a layer of 7 costs more than one of 8"""
    ranking_bound: float = 1.5
    """non-uniform: a layer has at most so many times its uniform channels, and at least that share of them"""
    warm_start: bool = True
    """non-uniform, dense rungs: begin with the weights of the ranked network"""

    seed: int = 0
    """of weights, order and augmentation"""
    holdout: int = 0
    """training images kept back, and tested on instead of the test images, for the ladder's figures too: to choose a
    recipe with"""
    test_every: int = 5
    """epochs between two looks at the test images; the end of a stage always has one"""

    def __post_init__(self) -> None:
        for name, choices in (
            ("data", DataName),
            ("net", Family),
            ("connectivity", Connectivity),
            ("scheme", Scheme),
            ("plan", Plan),
            ("head", Head),
            ("padding", Padding),
            ("draw", Draw),
        ):
            if getattr(self, name) not in get_args(choices):
                want = f"one of {', '.join(get_args(choices))}"
                raise NetworkError.at(name, "unknown", value=getattr(self, name), want=want)
        for name, low, high in (
            ("blocks", 1, 32),
            ("batch", 2, 2**20),
            ("parts", 1, 256),
            ("learning_rate", 0.0, 100.0),
            ("warmup", 0.0, 1.0),
            ("momentum", 0.0, 0.9999),
            ("weight_decay", 0.0, 1.0),
            ("label_smoothing", 0.0, 0.99),
            ("ema", 0.0, 0.999999),
            ("crop", 0, min(SHAPES[self.data][1:]) - 1),
            ("cutout", 0, min(SHAPES[self.data][1:])),
            ("color", 0.0, 10.0),
            ("alone", 0.0, 1.0),
            ("teacher_weight", 0.0, 1.0),
            ("temperature", 0.01, 100.0),
            ("sandwich", 2, 64),
            ("rung", 0, 64),
            ("ranking_epochs", 1, 10**6),
            ("ranking_cost", 0.0, 10.0),
            ("ranking_step", 1, 64),
            ("ranking_bound", 1.0, 100.0),
            ("seed", 0, 2**32 - 1),
            ("holdout", 0, 10**6),
            ("test_every", 1, 10**6),
        ):
            value = getattr(self, name)
            whole = isinstance(low, int)
            if not isinstance(value, int if whole else int | float) or not low <= value <= high:
                what = "a whole number" if whole else "a number"
                raise NetworkError.at(name, "out of range", value=value, want=f"{what} from {low:g} to {high:g}")
        if self.batch < 2 * self.parts:
            raise NetworkError.at(
                "parts", "too many", value=self.parts, want=f"at most {self.batch // 2}: half a batch"
            )
        if not self.channels or not all(type(n) is int and n >= 1 for n in self.channels):
            raise NetworkError.at("channels", "no counts", value=self.channels, want="at least 1 each")
        if not self.epochs or not all(type(n) is int and n >= 1 for n in self.epochs):
            raise NetworkError.at("epochs", "no counts", value=self.epochs, want="at least 1 each")
        if not self.shares or not all(isinstance(s, int | float) and 0 < s <= 1 for s in self.shares):
            raise NetworkError.at("shares", "no shares", value=self.shares, want="above 0, up to 1")
        if not all(type(n) is int and n >= 1 for n in self.turns):
            raise NetworkError.at("turns", "no counts", value=self.turns, want="at least 1 each")
        slimmable = self.connectivity == "slimmable"
        if self.scheme == ("incremental" if slimmable else "multi_path"):
            want = "incremental for group and nested, multi_path for slimmable"
            raise NetworkError.at("scheme", f"does not suit {self.connectivity}", value=self.scheme, want=want)
        if self.connectivity == "nested" and self.alone == 1:
            want = "below 1: a nested group must get to read the earlier ones"
            raise NetworkError.at("alone", "does not suit nested", value=self.alone, want=want)
        if self.plan == "nonuniform" and self.connectivity == "group":
            raise NetworkError.at("plan", "does not suit group", value=self.plan, want="nested or slimmable")

    def network(self) -> NetConfig:
        """The network of a uniform plan."""
        return NetConfig(
            family=self.net,
            connectivity=self.connectivity,
            widths=shares_of(free_layers(self.net, self.channels, self.blocks), self.shares),
            input_shape=SHAPES[self.data],
            head=self.head,
        )

    def to_json(self) -> dict[str, object]:
        """Plain lists, numbers and strings."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: object, where: str = "config") -> TrainConfig:
        """The inverse of `to_json`; NetworkError naming `where` and the entry that is wrong."""
        if not isinstance(found, Mapping):
            raise NetworkError.at(where, "is not an object")
        names = {f.name for f in fields(cls)}
        for name in set(found) - names:
            raise NetworkError.at(f"{where}, entry {name!r}", "unknown")
        entries: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        try:
            return cls(**entries)
        except NetworkError as error:
            raise NetworkError(f"{where}: {error}") from None
        except TypeError as error:
            raise NetworkError.at(where, f"an entry has the wrong type: {error}") from None
