"""The one training loop: the stages of a scheme, their epochs and steps, a checkpoint after every epoch.

Whatever is random in an epoch is drawn from the seed, the stage and the epoch, so a run that was stopped and taken
up again gives the network of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyndnn.augment import Augment, Batches
from dyndnn.checkpoint import CHECKPOINT, Checkpoint, check_state, load_net, save_checkpoint
from dyndnn.costs import macs, weight_count
from dyndnn.data import Dataset
from dyndnn.errors import NetworkError
from dyndnn.events import add_events, begin_events
from dyndnn.machine import describe, has_bfloat16, versions
from dyndnn.nets import DynamicNet
from dyndnn.optimiser import remembered, remind, set_rate, stage_optimiser
from dyndnn.pace import Pace
from dyndnn.parts import Parts
from dyndnn.passes import accuracies, settle
from dyndnn.record import write_record
from dyndnn.schemes import Losses, Stage, hold, plan_epoch, stages
from dyndnn.train_config import MIRRORS, TrainConfig

TENSORBOARD = "tb"
SETTLE_STEPS = 100  # batches from which a dense rung's batch-norm statistics are taken anew


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    stage: str
    epoch: int  # of the stage, from 1
    epochs: int
    images: int  # seen in this stage
    images_total: int
    loss: float  # mean of the epoch so far; on a GPU of the epoch before
    left_s: float  # of all stages


class Run:
    """A training under way; `record` is what training.json holds."""

    def __init__(
        self,
        config: TrainConfig,
        net: DynamicNet,
        data: Dataset,
        folder: Path,
        device: torch.device,
        record: dict[str, Any],
        on_progress: Callable[[Progress], None] | None,
        first_rung: int = 1,
    ) -> None:
        """`first_rung`: what people call the network's first one; above 1 where a larger one is trained alone."""
        if data.shape != net.config.input_shape:
            want = f"{net.config.input_shape}"
            raise NetworkError.at("data", "images have another shape", value=data.shape, want=want)
        self.config, self.folder, self.device, self.on_progress = config, folder, device, on_progress
        self.first_rung = first_rung
        self.net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.half = has_bfloat16(device)
        dtype = torch.bfloat16 if self.half else torch.float32
        self.training = Batches(data.train_images, data.train_labels, data.mean, data.std, device=device, dtype=dtype)
        self.testing = Batches(data.test_images, data.test_labels, data.mean, data.std, device=device, dtype=dtype)
        self.augment = Augment(
            crop=config.crop,
            padding=config.padding,
            flip=config.flip and MIRRORS[config.data],
            cutout=config.cutout,
            color=config.color,
        )
        self.steps = self.training.steps(config.batch)
        self.losses = Losses(config)
        self.teacher = load_net(config.teacher) if config.teacher else None
        if self.teacher is not None:
            self.teacher.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stages = stages(config, net.config)
        self.optimiser: torch.optim.Optimizer = torch.optim.SGD(net.parameters())
        self.hold: Callable[[], None] = lambda: None
        self.average: dict[str, Tensor] = {}
        self.parts = Parts(net, 1, device)
        self.loss = math.nan
        self.record = record | {
            "config": config.to_json(),
            "network": net.config.to_json(),
            "versions": versions(),
            "machine": describe(device),
        }
        self.spent_s = float(record["seconds"])
        self.started_s = time.monotonic()
        self.events = begin_events(folder / TENSORBOARD, len(record["curve"]) + 1)

    def close(self) -> None:
        """Let go of threads."""
        self.parts.close()

    def fit(self, found: Checkpoint | None) -> None:
        """All stages that are left, from what `found` says where a run is taken up again."""
        self.pace = Pace(self._work(self.record["stage"], self.record["epoch"]))
        for stage in self.stages[self.record["stage"] :]:
            self._begin(stage, found)
            found = None
            for epoch in range(self.record["epoch"], stage.epochs):
                self._epoch(stage, epoch)
                self.record["epoch"] = epoch + 1
                if epoch + 1 == stage.epochs:
                    self._end(stage)
                self._save()

    def _begin(self, stage: Stage, found: Checkpoint | None) -> None:
        """An optimiser for the stage; where the stage was begun before, with what it remembered."""
        config, net = self.config, self.net
        net.freeze_upto(stage.frozen)
        self.hold = hold(net, stage)
        self.optimiser = stage_optimiser(net, config, stage)
        self.parts.close()
        self.parts = Parts(net, config.parts, self.device)
        state = net.state_dict()
        self.average = {n: t.clone() for n, t in state.items() if t.is_floating_point()} if config.ema else {}
        if found is not None:
            where = self.folder / CHECKPOINT
            check_state(found.momentum, dict(net.named_parameters()), where, complete=False)
            remind(net, self.optimiser, found.momentum)
            if self.record["epoch"]:  # else the stage begins, and so does its average
                check_state(found.average, self.average, where)
                for name, tensor in found.average.items():
                    self.average[name].copy_(tensor)

    def _epoch(self, stage: Stage, epoch: int) -> None:
        config = self.config
        rng = self._rng(stage, epoch)
        plan = plan_epoch(config, stage, epoch, self.steps)
        start_s = time.monotonic()
        total, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        self.parts.train()
        for step, (x, y) in enumerate(self.training.shuffled(config.batch, self.augment, rng)):
            set_rate(self.optimiser, config, epoch * self.steps + step, stage.epochs * self.steps)
            self.optimiser.zero_grad(set_to_none=True)
            learn = partial(self._learn, plan[step], self._alone(stage, epoch, step))
            loss, found = self.parts.step(learn, x, y, self._taught(x))
            total += loss
            right += found
            self.optimiser.step()
            self.hold()
            self._add_to_average()
            if self.on_progress is not None:
                if self.device.type == "cpu":  # on a GPU it would wait for the step
                    self.loss = float(total) / (step + 1)
                self._tell(stage, epoch, step + 1)
        self.loss = float(total) / self.steps
        if not math.isfinite(self.loss):
            want = "a lower --learning-rate, or a longer --warmup"
            raise NetworkError.at(stage.title, f"diverged in epoch {epoch + 1}", want=want)
        row: dict[str, Any] = {
            "stage": stage.title,
            "epoch": epoch + 1,
            "rungs": sorted({k + self.first_rung for rungs in plan for k in rungs}),
            "loss": round(self.loss, 5),
            "train_accuracy": round(float(right) / (self.steps * min(config.batch, len(self.training))), 5),
            "seconds": round(time.monotonic() - start_s, 2),
        }
        if (epoch + 1) % config.test_every == 0 and epoch + 1 < stage.epochs:
            row |= self._test(tuple(k - self.first_rung for k in row["rungs"]))
        self.record["curve"].append(row)
        self._log(row)

    def _learn(
        self, rungs: tuple[int, ...], alone: bool, net: DynamicNet, x: Tensor, y: Tensor, taught: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of the largest of `rungs` and how many images it has right; gradients of all are left in `net`."""
        first: tuple[Tensor, Tensor] | None = None
        with self._autocast():
            for loss, logits in self.losses(net, x, y, rungs, taught, alone):
                loss.backward()  # type: ignore[no-untyped-call]
                if first is None:
                    first = loss.detach(), (logits.detach().argmax(1) == y).sum()
        assert first is not None
        return first

    def _end(self, stage: Stage) -> None:
        """The stage's last epoch is over: the average takes its place, statistics settle, rungs are tested."""
        if self.average:
            self.net.load_state_dict(self.average, strict=False)
            self.average = {}
        if self.net.config.connectivity == "slimmable" and len(stage.rungs) > 1:
            for rung in stage.rungs:
                batches = self.training.shuffled(self.config.batch, self.augment, self._rng(stage, stage.epochs))
                with self._autocast():
                    settle(self.net, rung, islice(batches, SETTLE_STEPS))
        row = self.record["curve"][-1]
        self.record["stage"], self.record["epoch"] = stage.index + 1, 0
        if stage.index + 1 < len(self.stages):
            row |= self._test(tuple(range(stage.rungs[-1] + 1)))
        else:
            self.record["finished"] = True
            self.record["rungs"] = results = self._results()
            row["test_accuracy"] = {str(rung["rung"]): rung["accuracy"] for rung in results}
        self._log(row)

    def _results(self) -> list[dict[str, Any]]:
        """Every trained rung on the test images, in single precision."""
        config = self.net.config
        self.testing.dtype = torch.float32
        found = accuracies(self.net, self.testing, tuple(sorted({k for stage in self.stages for k in stage.rungs})))
        return [
            {
                "rung": k + self.first_rung,
                "accuracy": round(accuracy, 5),
                "confidence": round(confidence, 5),
                "macs": macs(config, k),
                "weights": weight_count(config, k),
            }
            for k, (accuracy, confidence) in found.items()
        ]

    def _test(self, rungs: tuple[int, ...]) -> dict[str, Any]:
        found = accuracies(self.net, self.testing, rungs, self._autocast())
        return {"test_accuracy": {str(k + self.first_rung): round(accuracy, 5) for k, (accuracy, _) in found.items()}}

    def _taught(self, x: Tensor) -> Tensor | None:
        """The teacher's logits (n, classes), where there is one."""
        if self.teacher is None:
            return None
        with torch.no_grad(), self._autocast():
            logits: Tensor = self.teacher(x, self.teacher.config.rungs - 1)
        return logits

    def _alone(self, stage: Stage, epoch: int, step: int) -> bool:
        """Whether a new group is still in the part of its training in which it must do without the earlier ones."""
        now = (epoch + step / self.steps) / stage.epochs
        return self.config.scheme == "incremental" and stage.frozen > 0 and now < self.config.alone

    @torch.no_grad()
    def _add_to_average(self) -> None:
        if self.average:
            state = self.net.state_dict()
            now = [state[name] for name in self.average]
            torch._foreach_lerp_(list(self.average.values()), now, 1 - self.config.ema)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _rng(self, stage: Stage, epoch: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.config.seed, stage.index, epoch]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def _work(self, stages_done: int, epochs_done: float) -> float:
        """What that much of the run costs, in the units of `Stage.cost`."""
        work = sum(s.cost * s.epochs for s in self.stages[:stages_done])
        return work + (self.stages[stages_done].cost * epochs_done if epochs_done else 0.0)

    def _tell(self, stage: Stage, epoch: int, step: int) -> None:
        assert self.on_progress is not None
        left_s = self.pace.left_s(self._work(stage.index, epoch + step / self.steps), self._work(len(self.stages), 0))
        seen = self.steps * self.config.batch
        images = epoch * seen + step * self.config.batch
        told = Progress(stage.title, epoch + 1, stage.epochs, images, stage.epochs * seen, self.loss, left_s)
        self.on_progress(told)

    def _log(self, row: dict[str, Any]) -> None:
        scalars = {"train/loss": row["loss"], "train/accuracy": row["train_accuracy"]}
        tested = {f"test accuracy/rung {rung}": found for rung, found in row.get("test_accuracy", {}).items()}
        add_events(self.events, len(self.record["curve"]), scalars | tested)

    def _save(self) -> None:
        self.record["seconds"] = round(self.spent_s + time.monotonic() - self.started_s, 2)
        checkpoint = Checkpoint(self.net.config, self.record, dict(self.net.state_dict()))
        if self.record["epoch"]:  # in the middle of a stage
            checkpoint.momentum = remembered(self.net, self.optimiser)
            checkpoint.average = self.average
        save_checkpoint(self.folder, checkpoint)
        write_record(self.folder, self.record)
