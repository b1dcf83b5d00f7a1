"""Train a dynamic network into a run folder: checkpoint.npz, training.json, TensorBoard events in tb/."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dyndnn.augment import Batches
from dyndnn.checkpoint import CHECKPOINT, Checkpoint, fill, load_checkpoint
from dyndnn.data import Dataset
from dyndnn.errors import NetworkError
from dyndnn.files import is_file, make_folder
from dyndnn.ladder import LADDER_FILE
from dyndnn.loop import Progress, Run
from dyndnn.machine import pick_device
from dyndnn.netconfig import NetConfig, alone
from dyndnn.nets import DynamicNet
from dyndnn.record import TRAINING, begun, recorded_network, write_record
from dyndnn.schemes import stages
from dyndnn.train_config import TrainConfig
from dyndnn.widths import Scores, channel_scores, ranked_widths, sort_channels, spread

__all__ = ["Progress", "Trained", "check_run", "train"]

RANKING = "ranking"  # folder of the network whose channels are ranked
RANKING_IMAGES, RANKING_BATCH = 5000, 100  # from which they are

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    net: DynamicNet
    record: dict[str, Any]  # what training.json holds
    interrupted: bool  # by Ctrl-C; the last whole epoch is in the checkpoint


def check_run(config: TrainConfig, out: str | Path, *, resume: bool) -> None:
    """NetworkError where the config cannot be trained, or not into `out`; writes nothing.

    `out` may hold no run and no ladder, or, with `resume`, a run of the same config.
    """
    folder = Path(out)
    network = _network(config)
    if config.scheme == "alone" and config.rung > network.rungs:
        raise NetworkError.at("rung", "no such rung", value=config.rung, want=f"from 1 to {network.rungs}")
    if config.teacher:
        theirs, own = (
            f"images of {n.input_shape} and {n.classes} classes"
            for n in (load_checkpoint(config.teacher).network, network)
        )
        if theirs != own:
            raise NetworkError.at("teacher", f"knows {theirs}", value=config.teacher, want=own)
    stages(config, network)
    if not resume:
        if any(is_file(folder / name) for name in (CHECKPOINT, TRAINING, LADDER_FILE, f"{RANKING}/{CHECKPOINT}")):
            raise NetworkError.at(folder, "already holds a run", want="name a new folder, or go on with --resume")
    elif is_file(folder / CHECKPOINT):
        _check_same(config, load_checkpoint(folder), folder)
    elif is_file(folder / TRAINING):  # stopped in its first epoch, or in its ranking
        earlier, record = begun(folder)
        if record.get("curve") != []:
            raise NetworkError.at(folder / CHECKPOINT, "no such file", want="the run cannot go on without it")
        _check_config(config, earlier, folder)


def train(
    config: TrainConfig,
    data: Dataset,
    out: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    note: Mapping[str, object] | None = None,
) -> Trained:
    """Train into the run folder `out`, or, with `resume`, go on where the run there was stopped.

    `threads`: of torch (None: as torch chooses); `note`: what else training.json shall hold. Ctrl-C ends the
    training and is reported in the result; the same seed gives the same network on the same machine with the
    same threads, interrupted or not.
    Raises NetworkError where the folder holds another run, the data do not suit, or the training diverges.
    """
    folder = Path(out)
    check_run(config, folder, resume=resume)
    if data.name != config.data:
        raise NetworkError.at("data", "another set than the config's", value=data.name, want=config.data)
    place = pick_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    make_folder(folder)
    if config.holdout:
        data = data.held_out(config.holdout)
    found = load_checkpoint(folder) if is_file(folder / CHECKPOINT) else None
    record: dict[str, Any] = {"seconds": 0.0, "stage": 0, "epoch": 0, "finished": False, "curve": []}
    record |= note or {}
    if found is None:
        # what a run that is stopped before its first epoch is over, or in its ranking, is taken up again with
        write_record(folder, record | {"config": config.to_json()})
        ranking = None
        if config.plan == "nonuniform" and not config.widths_from:
            ranking = _rank(config, data, folder / RANKING, device, resume, on_progress)
            if ranking.interrupted:
                return ranking
            record["seconds"] = record["ranking_seconds"] = ranking.record["seconds"]
        net = _first_net(config, None if ranking is None else ranking.net, data)
    else:
        record |= found.record
        net = DynamicNet(found.network)
        fill(net, found.net, folder / CHECKPOINT)
        if record["finished"]:
            write_record(folder, record)  # it was not if the run was killed between its last two writes
            return Trained(net.eval(), record, interrupted=False)
    first_rung = 1
    if config.scheme == "alone" and config.connectivity == "slimmable":
        first_rung = config.rung or _network(config).rungs
    run = Run(config, net, data, folder, place, record, on_progress, first_rung)
    interrupted = False
    try:
        run.fit(found)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        run.close()
    # as load_net gives it: other strides may take other kernels, whose rounding differs
    net.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Trained(net.eval(), run.record, interrupted)


def _rank(
    config: TrainConfig, data: Dataset, folder: Path, device: str, resume: bool, on_progress: OnProgress | None
) -> Trained:
    """A full dense network, trained for a while, whose channels can be ranked."""

    def tell(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(replace(progress, stage="ranking"))

    full = replace(
        config,
        connectivity="slimmable",
        scheme="alone",
        plan="uniform",
        shares=(1.0,),
        rung=0,
        head="added",
        epochs=(config.ranking_epochs,),
        holdout=0,  # already held out
    )
    return train(full, data, folder, device=device, resume=resume, on_progress=tell)


def _first_net(config: TrainConfig, ranked: DynamicNet | None, data: Dataset) -> DynamicNet:
    """The untrained network; with non-uniform rungs from a ranked one, where dense also with its weights."""
    network = _network(config)
    scores: Scores = []
    if ranked is not None:
        images, labels = data.train_images[:RANKING_IMAGES], data.train_labels[:RANKING_IMAGES]
        batches = Batches(images, labels, data.mean, data.std, device=torch.device("cpu"))
        scores = channel_scores(ranked, batches.in_order(RANKING_BATCH))
        widths = ranked_widths(
            scores, network, cost=config.ranking_cost, bound=config.ranking_bound, step=config.ranking_step
        )
        network = replace(network, widths=widths)
    if config.scheme == "alone":
        network = alone(network, (config.rung or network.rungs) - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = DynamicNet(network)
    dense = network.connectivity == "slimmable" and config.scheme != "alone"
    if ranked is not None and config.warm_start and dense:
        spread(sort_channels(ranked, scores), net)
    return net


def _network(config: TrainConfig) -> NetConfig:
    """The network of a uniform plan, or, where `widths_from` names another, with that one's channels."""
    network = config.network()
    if not config.widths_from:
        return network
    found = recorded_network(config.widths_from)
    if found.family != network.family:
        raise NetworkError.at("widths_from", f"is a {found.family}", value=config.widths_from, want=network.family)
    return replace(network, widths=found.widths)


def _check_same(config: TrainConfig, found: Checkpoint, folder: Path) -> None:
    """NetworkError where a checkpoint is of another config, or does not say where its run stands."""
    where = folder / CHECKPOINT
    _check_config(config, TrainConfig.from_json(found.record.get("config"), f"{where}, config"), folder)
    epochs = [stage.epochs for stage in stages(config, found.network)]
    record: dict[str, Any] = dict.fromkeys(("stage", "epoch", "finished", "seconds", "curve")) | found.record
    stage, epoch, finished, seconds = (record[name] for name in ("stage", "epoch", "finished", "seconds"))
    if finished is True:
        known = (stage, epoch) == (len(epochs), 0)
    else:
        known = finished is False and type(stage) is int and type(epoch) is int
        known = known and 0 <= stage < len(epochs) and 0 <= epoch < epochs[stage]
    timed = isinstance(seconds, int | float) and 0 <= seconds < math.inf
    if not (known and timed and isinstance(record["curve"], list)):
        raise NetworkError.at(where, "its record does not say where the run stands")


def _check_config(config: TrainConfig, theirs: TrainConfig, folder: Path) -> None:
    """NetworkError where the run in a folder began with another config."""
    for name, value in asdict(config).items():
        if getattr(theirs, name) != value:
            want = f"{getattr(theirs, name)!r}, with which the run began"
            raise NetworkError.at(name, f"cannot change while {folder} is resumed", value=value, want=want)
