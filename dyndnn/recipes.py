"""What each network of the zoo is trained with, as changes to the defaults of `dyndnn.train_config`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dyndnn.errors import NetworkError
from dyndnn.train_config import STAGED, Scheme, TrainConfig

# `docs/NETWORKS.md` says why, and which ship
_RESNET20: dict[str, Any] = {
    "net": "resnet20",
    "channels": (16, 32, 64),
    "learning_rate": 0.4,
    "weight_decay": 2.5e-4,  # it underfits
    "epochs": (100,),
}
_SINGLE: dict[str, Any] = {"scheme": "single_path", "turns": (1, 1, 1, 3)}  # the largest in every second step
_DENSE: dict[str, Any] = {"connectivity": "slimmable"}
_SMALL_STEPS: dict[str, Any] = {"batch": 128, "learning_rate": 0.1}
_VARIED: dict[str, Any] = {"cutout": 8, "label_smoothing": 0.05}
RECIPES: dict[str, dict[str, Any]] = {
    "alexnet-group": _SMALL_STEPS
    | _VARIED
    | {"channels": (48, 144, 288, 192, 192), "alone": 1.0, "epochs": (24, 40, 40, 40)},
    "alexnet-paper": _SMALL_STEPS | {"channels": (16, 32, 48, 48, 48), "head": "own", "epochs": (10, 20, 20, 20)},
    "alexnet-nested": _SMALL_STEPS | _VARIED | {"connectivity": "nested", "alone": 0.75, "epochs": (20, 32, 32, 32)},
    "alexnet-slimmable": _SMALL_STEPS | _VARIED | _DENSE | {"scheme": "joint", "epochs": (24,)},
    "resnet20-uniform": _RESNET20 | _DENSE | _SINGLE,
    "resnet20-nonuniform": _RESNET20 | _DENSE | _SINGLE | {"plan": "nonuniform", "ranking_step": 4},
    "digits": {
        "data": "digits",
        "channels": (8, 16, 24, 24, 24),
        "epochs": (15,),
        "batch": 64,
        "learning_rate": 0.1,
        "crop": 0,  # digits fill their images
        "head": "own",
        "alone": 0.8,
    },
}
# Which of them a choice of network starts from, where none is named
_STARTS = {
    ("alexnet", "group"): "alexnet-group",
    ("alexnet", "nested"): "alexnet-nested",
    ("alexnet", "slimmable"): "alexnet-slimmable",
    ("resnet20", "slimmable"): "resnet20-uniform",
}
_SCHEMES: dict[str, Scheme] = {"group": "incremental", "nested": "incremental", "slimmable": "joint"}


def recipe(name: str, **changes: Any) -> TrainConfig:
    """A recipe of the zoo, with `changes`; see `default_config` for counts that they do not leave room for.

    Raises NetworkError where there is none of that name.
    """
    if name not in RECIPES:
        raise NetworkError.at("recipe", "unknown", value=name, want=f"one of {', '.join(RECIPES)}")
    return _with(RECIPES[name], changes)


def default_config(
    data: str = "cifar10",
    net: str = "alexnet",
    connectivity: str | None = None,
    scheme: str | None = None,
    **changes: Any,
) -> TrainConfig:
    """The recipe nearest to a choice of network, with `changes`; None: what suits the other choices.

    Where the recipe's epochs are of more or fewer stages than the scheme has, the last group's serve for all; turns of
    more or fewer rungs are left out.
    Raises NetworkError on an unknown name.
    """
    connectivity = connectivity or ("slimmable" if net == "resnet20" else "group")
    changes = {"data": data, "net": net, "connectivity": connectivity} | changes
    start = RECIPES.get(_STARTS.get((net, connectivity), ""), _RESNET20 if net == "resnet20" else {})
    if data == "digits":
        small = {k: v for k, v in RECIPES["digits"].items() if k != "channels" or net == "alexnet"}
        start = {k: v for k, v in start.items() if k in ("channels", "scheme")} | small
    own = start.get("scheme") or _SCHEMES.get(connectivity, "incremental")
    return _with(start, changes | {"scheme": scheme or own})


def _with(start: dict[str, Any], changes: dict[str, Any]) -> TrainConfig:
    """A recipe with changes; what it counts per stage or rung gives way where nobody named it."""
    both = start | changes
    rungs = len(both.get("shares", TrainConfig.shares))
    stages = rungs if both.get("scheme", TrainConfig.scheme) in STAGED else 1
    if "epochs" not in changes and len(both.get("epochs", ())) not in (1, stages):
        both["epochs"] = both.get("epochs", TrainConfig.epochs)[-1:]
    if "turns" not in changes and len(both.get("turns", ())) != rungs:
        both["turns"] = ()
    return replace(TrainConfig(), **both)
