"""What training must hold: frozen is frozen to the bit, a stopped run ends like any other, rungs cost what they may."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dyndnn.checkpoint import CHECKPOINT, Checkpoint, load_net, save_checkpoint
from dyndnn.costs import macs
from dyndnn.data import Dataset, load_data
from dyndnn.errors import NetworkError
from dyndnn.events import add_events, begin_events
from dyndnn.nets import DynamicNet
from dyndnn.recipes import default_config, recipe
from dyndnn.record import begun, recorded_network
from dyndnn.schemes import plan_epoch, stages
from dyndnn.train import Progress, check_run, train
from dyndnn.train_config import TrainConfig
from dyndnn.widths import channel_scores, ranked_widths, sort_channels, spread
from tests.training import config, digits, images, run, same, stop_at

__all__ = ["digits"]  # a fixture


CASES = [
    ("group", "incremental", "alexnet", {}),
    ("nested", "incremental", "alexnet", {"head": "own", "ema": 0.9}),
    ("nested", "incremental", "resnet20", {"epochs": (1,)}),
    ("slimmable", "multi_path", "alexnet", {"ema": 0.9}),
    ("slimmable", "multi_path", "resnet20", {"epochs": (1,), "head": "own"}),
]


@pytest.mark.parametrize(("connectivity", "scheme", "net", "changes"), CASES)
def test_rungs_stay_bit_identical_while_later_ones_train(
    digits: Dataset, tmp_path: Path, connectivity: str, scheme: str, net: str, changes: dict[str, Any]
) -> None:
    c = config(connectivity, scheme, net, **changes)
    what = "group" if scheme == "incremental" else "rung"
    x = images(digits)
    before: list[torch.Tensor] = []
    for k in range(2, 5):
        stopped = run(c, digits, tmp_path, resume=True, on_progress=stop_at(f"{what} {k}", 1))
        assert stopped.interrupted
        before.append(load_net(tmp_path)(x, k - 2))
    done = run(c, digits, tmp_path, resume=True)
    assert not done.interrupted and done.record["finished"]
    after = done.net.forward_upto(x, 3)
    for k in range(3):
        assert torch.equal(before[k], after[k])
    assert not any(torch.equal(a, b) for a, b in pairwise(after))
    assert len(done.record["rungs"]) == 4


def test_weights_of_later_rungs_wait_for_their_turn_undecayed(digits: Dataset, tmp_path: Path) -> None:
    """No gradient reaches them in the stages before; a weight decay that could would have halved them by then."""
    c = config("slimmable", "multi_path", "resnet20", weight_decay=0.05, epochs=(4,))
    torch.manual_seed(c.seed)
    fresh = DynamicNet(c.network()).state_dict()
    assert run(c, digits, tmp_path, on_progress=stop_at("rung 2", 1)).interrupted
    now = load_net(tmp_path).state_dict()
    name, rungs = "layers.stage2_block2_conv2.conv.weight", c.network().widths
    first = rungs[0][1]
    assert torch.equal(now[name][first:], fresh[name][first:])
    assert not torch.equal(now[name][:first, :first], fresh[name][:first, :first])
    features = rungs[0][2]
    assert torch.equal(now["heads.0.weight"][:, features:], fresh["heads.0.weight"][:, features:])
    run(replace(c, weight_decay=0.0), digits, tmp_path / "undecayed", on_progress=stop_at("rung 2", 1))
    undecayed = load_net(tmp_path / "undecayed").state_dict()
    assert now[name][:first, :first].norm() < 0.9 * undecayed[name][:first, :first].norm()


@pytest.mark.parametrize(
    ("connectivity", "scheme", "changes"),
    [
        ("group", "incremental", {"ema": 0.9, "head": "own", "cutout": 2, "color": 0.1}),
        ("slimmable", "joint", {"epochs": (4,)}),
        ("slimmable", "single_path", {"epochs": (4,), "draw": "epoch"}),
        ("slimmable", "multi_path", {}),
    ],
)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
    digits: Dataset, tmp_path: Path, connectivity: str, scheme: str, changes: dict[str, Any]
) -> None:
    c = config(connectivity, scheme, **changes)
    straight = run(c, digits, tmp_path / "a")
    for stage, epoch in (("", 2), ("group 3", 2), ("rung 2", 1), ("joint", 4)):
        run(c, digits, tmp_path / "b", resume=True, on_progress=stop_at(stage, epoch))
    resumed = run(c, digits, tmp_path / "b", resume=True)
    assert same(straight.net, resumed.net) and same(resumed.net, load_net(tmp_path / "b"))
    a, b = straight.record, resumed.record
    assert a["rungs"] == b["rungs"] and len(a["curve"]) == len(b["curve"])
    assert [(r["loss"], r["train_accuracy"]) for r in a["curve"]] == [
        (r["loss"], r["train_accuracy"]) for r in b["curve"]
    ]
    again = run(c, digits, tmp_path / "b", resume=True)  # finished: nothing to do
    assert same(again.net, straight.net) and again.record["seconds"] == resumed.record["seconds"]


def test_a_run_stopped_in_its_first_epoch_is_known_by_its_record(digits: Dataset, tmp_path: Path) -> None:
    c = config("slimmable", "single_path", "resnet20", plan="nonuniform", epochs=(1,), ranking_epochs=1)
    assert run(c, digits, tmp_path, on_progress=stop_at("ranking", 1), note={"name": "mine"}).interrupted
    found, record = begun(tmp_path)
    assert found == c and record["name"] == "mine" and record["curve"] == []


def test_the_record_of_a_run_killed_before_its_last_write_is_written(digits: Dataset, tmp_path: Path) -> None:
    c = config("group", "incremental", epochs=(1,), shares=(0.5, 1.0))
    run(c, digits, tmp_path)
    record = (tmp_path / "training.json").read_bytes()
    (tmp_path / "training.json").write_text(json.dumps(json.loads(record) | {"finished": False, "rungs": []}))
    assert run(c, digits, tmp_path, resume=True).record["finished"]
    assert (tmp_path / "training.json").read_bytes() == record


def test_the_seed_decides(digits: Dataset, tmp_path: Path) -> None:
    c = config("group", "incremental", epochs=(1,), shares=(0.5, 1.0))
    nets = [run(replace(c, seed=s), digits, tmp_path / f"{i}").net for i, s in enumerate((3, 3, 4))]
    assert same(nets[0], nets[1]) and not same(nets[0], nets[2])


def test_the_record_says_it_all(digits: Dataset, tmp_path: Path) -> None:
    c = config("group", "incremental", test_every=1)
    done = run(c, digits, tmp_path, note={"git_commit": "abc"})
    record = json.loads((tmp_path / "training.json").read_text())
    assert record == json.loads(json.dumps(done.record)) and record["git_commit"] == "abc"
    assert TrainConfig.from_json(record["config"]) == c
    assert {"config", "network", "versions", "machine", "seconds", "curve", "rungs"} <= record.keys()
    assert [(row["stage"], row["epoch"]) for row in record["curve"]] == [
        (f"group {k} of 4", e) for k in (1, 2, 3, 4) for e in (1, 2)
    ]
    assert record["curve"][-1]["test_accuracy"].keys() == {"1", "2", "3", "4"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.npz", "tb", "training.json"]
    assert len(list((tmp_path / "tb").iterdir())) == 1
    shown = EventAccumulator(str(tmp_path / "tb")).Reload()
    for tag, figure in (("train/loss", "loss"), ("train/accuracy", "train_accuracy")):
        told = {event.step: event.value for event in shown.Scalars(tag)}
        assert told == pytest.approx({n: row[figure] for n, row in enumerate(record["curve"], 1)})
    assert shown.Scalars("test accuracy/rung 4")[-1].value == pytest.approx(record["rungs"][3]["accuracy"])


def test_events_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    """A full disk, say: the largest file that this process may write is one of no bytes."""
    path = begin_events(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        for write in (lambda: begin_events(tmp_path, 1), lambda: add_events(path, 1, {"train/loss": 1.0})):
            with pytest.raises(NetworkError, match=r"events\.out.*: cannot be written: File too large"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_it_learns(tmp_path: Path) -> None:
    done = run(default_config("digits", connectivity="slimmable", epochs=(5,)), load_data("digits"), tmp_path)
    accuracy = [rung["accuracy"] for rung in done.record["rungs"]]
    # a tenth is chance; processors round differently, and five epochs are few: 0.747 and above were seen for the first
    assert accuracy[0] > 0.6 and accuracy[-1] > 0.92 and accuracy[-1] > accuracy[0], accuracy


def test_dense_rungs_have_statistics_of_their_own_that_settle(digits: Dataset, tmp_path: Path) -> None:
    done = run(config("slimmable", "single_path", epochs=(4,)), digits, tmp_path)
    norms = [done.net.get_submodule(f"layers.conv3.norms.{k}") for k in range(4)]
    means = [norm.running_mean[:4] for norm in norms]  # type: ignore[index]
    assert not any(torch.equal(a, b) for a, b in pairwise(means))
    assert all(norm.momentum == 0.1 for norm in norms)
    # plain means over 8 batches: what the network does in training mode is what it does in evaluation
    assert {int(norm.num_batches_tracked) for norm in norms} == {8}  # type: ignore[arg-type]


def test_a_teacher_is_listened_to(digits: Dataset, tmp_path: Path) -> None:
    teacher = config("slimmable", "alone", shares=(1.0,))
    run(teacher, digits, tmp_path / "teacher")
    pupil = config("group", "incremental", epochs=(1,), teacher=str(tmp_path / "teacher"))
    taught = run(pupil, digits, tmp_path / "taught").net
    assert not same(taught, run(replace(pupil, teacher=""), digits, tmp_path / "untaught").net)
    with pytest.raises(NetworkError, match=r"nowhere.*no such file"):
        run(replace(pupil, teacher=str(tmp_path / "nowhere")), digits, tmp_path / "c")


def test_alone_is_a_network_of_the_same_size(digits: Dataset, tmp_path: Path) -> None:
    for connectivity in ("group", "slimmable"):
        whole = config(connectivity, "alone", epochs=(1,)).network()
        done = run(config(connectivity, "alone", epochs=(1,), rung=2), digits, tmp_path / connectivity)
        (rung,) = done.record["rungs"]
        assert rung["rung"] == 2 and rung["macs"] == macs(whole, 1)
        largest = run(config(connectivity, "alone", epochs=(1,)), digits, tmp_path / f"{connectivity}-largest")
        (rung,) = largest.record["rungs"]
        assert rung["rung"] == 4 and rung["macs"] == macs(whole, 3)
        assert largest.record["curve"][-1]["rungs"] == [4]
        assert largest.record["curve"][-1]["test_accuracy"].keys() == {"4"}


@pytest.mark.parametrize("connectivity", ["slimmable", "nested"])
def test_nonuniform_rungs(digits: Dataset, tmp_path: Path, connectivity: str) -> None:
    c = config(connectivity, "single_path", "resnet20", plan="nonuniform", epochs=(1,), ranking_epochs=1)
    stopped = run(c, digits, tmp_path, on_progress=stop_at("ranking", 1))
    assert stopped.interrupted and not (tmp_path / CHECKPOINT).exists()
    done = run(c, digits, tmp_path, resume=True)
    uniform, network = c.network(), done.net.config
    assert network.widths != uniform.widths and network.widths[-1] == uniform.widths[-1]
    for k in range(3):
        assert 0.85 * macs(uniform, k) <= macs(network, k) <= macs(uniform, k)
    assert all(n <= m for a, b in pairwise(network.widths) for n, m in zip(a, b, strict=True))
    assert done.record["seconds"] > done.record["ranking_seconds"] > 0
    theirs = run(replace(c, plan="uniform", scheme="alone", rung=2, widths_from=str(tmp_path)), digits, tmp_path / "x")
    assert theirs.net.config.widths[-1] == network.widths[1]


def test_a_rung_of_a_ladder_that_ships_can_be_trained_alone(digits: Dataset, tmp_path: Path) -> None:
    c = config("slimmable", "alone", "resnet20", rung=1, epochs=(1,), widths_from="resnet20-nonuniform")
    assert run(c, digits, tmp_path).net.config.widths == recorded_network("resnet20-nonuniform").widths[:1]


@pytest.mark.parametrize(("step", "filled"), [(1, 0.97), (4, 0.9)])
@pytest.mark.parametrize("cost", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("connectivity", ["slimmable", "nested"])
def test_the_ranking_keeps_the_best_channels_within_the_budget(
    connectivity: str, cost: float, step: int, filled: float
) -> None:
    uniform = TrainConfig(net="resnet20", connectivity=connectivity, channels=(16, 32, 64), scheme="alone").network()  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    scores = [rng.uniform(0, 1 if layer != 5 else 5, n) for layer, n in enumerate(uniform.widths[-1])]
    widths = ranked_widths(scores, uniform, cost=cost, step=step)
    assert all(n % step == 0 for row in widths for n in row)
    network = replace(uniform, widths=widths)  # refuses rungs that shrink
    for k in range(3):
        assert filled * macs(uniform, k) <= macs(network, k) <= macs(uniform, k)
    if (connectivity, step) != ("nested", 4):  # whose groups have four channels each there
        assert widths[1][5] > uniform.widths[1][5]  # the layer that matters five times as much
    for row, usual in zip(widths, uniform.widths, strict=True):
        assert all(1 / 1.5 <= n / u <= 1.5 for n, u in zip(row, usual, strict=True))


def test_sorted_channels_are_the_same_function() -> None:
    whole = TrainConfig(net="resnet20", connectivity="slimmable", channels=(4, 8, 12), shares=(1.0,), scheme="alone")
    torch.manual_seed(0)
    net = DynamicNet(whole.network()).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    scores = channel_scores(net, [(x, y)])
    net.load_state_dict(sort_channels(net, scores))
    assert all((np.diff(s) <= 1e-4 * s.max()).all() for s in channel_scores(net, [(x, y)]))
    for head in ("added", "own"):
        rungs = DynamicNet(replace(whole, shares=(0.5, 1.0), head=head).network()).eval()
        spread(net.state_dict(), rungs)
        torch.testing.assert_close(rungs(x, 1), net(x, 0))
    torch.manual_seed(0)
    unsorted = DynamicNet(whole.network()).eval()
    with torch.no_grad():
        for module in unsorted.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    torch.testing.assert_close(unsorted(x, 0), net(x, 0), rtol=1e-4, atol=1e-4)


def test_every_rung_has_its_turns() -> None:
    c = TrainConfig(net="resnet20", channels=(16, 32, 64), connectivity="slimmable", scheme="single_path", epochs=(8,))
    (stage,) = stages(c, c.network())
    drawn = [rungs for epoch in range(8) for rungs in plan_epoch(c, stage, epoch, 20)]
    assert all(drawn.count((k,)) == 40 for k in range(4))
    by_epoch = [plan_epoch(replace(c, draw="epoch"), stage, epoch, 20) for epoch in range(8)]
    assert all(len(set(epoch)) == 1 for epoch in by_epoch)
    assert all({epoch[0] for epoch in by_epoch[i : i + 4]} == {(0,), (1,), (2,), (3,)} for i in (0, 4))
    uneven = replace(c, turns=(1, 1, 1, 3))
    drawn = [rungs for epoch in range(8) for rungs in plan_epoch(uneven, stage, epoch, 18)]
    assert [drawn.count((k,)) for k in range(4)] == [24, 24, 24, 72]
    by_epoch = [plan_epoch(replace(uneven, draw="epoch"), stage, epoch, 9) for epoch in range(12)]
    assert sum(epoch[0] == (3,) for epoch in by_epoch) == 6
    assert stages(uneven, c.network())[0].cost > stage.cost
    with pytest.raises(NetworkError, match="turns"):
        stages(replace(c, turns=(1, 2)), c.network())
    with pytest.raises(NetworkError, match=r"epochs.*1 count"):
        stages(replace(c, epochs=(1, 2)), c.network())


def test_the_sandwich_has_both_ends() -> None:
    c = TrainConfig(connectivity="slimmable", scheme="joint", sandwich=3)
    (stage,) = stages(c, c.network())
    plan = plan_epoch(c, stage, 0, 50)
    assert {rungs[:2] for rungs in plan} == {(3, 0)} and {rungs[2:] for rungs in plan} == {(1,), (2,)}
    assert {len(r) for r in plan_epoch(replace(c, sandwich=64), stage, 0, 9)} == {4}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scheme": "incremental", "connectivity": "slimmable"}, ("scheme", "multi_path")),
        ({"scheme": "multi_path"}, ("scheme", "'multi_path'", "incremental")),
        ({"net": "lenet"}, ("net", "'lenet'", "resnet20")),
        ({"plan": "nonuniform"}, ("plan", "nested or slimmable")),
        ({"epochs": ()}, ("epochs",)),
        ({"epochs": (0,)}, ("epochs", "at least 1")),
        ({"shares": (0.5, 1.5)}, ("shares", "1.5")),
        ({"shares": ("half",)}, ("shares", "'half'")),
        ({"channels": ()}, ("channels", "at least 1")),
        ({"channels": ("many",)}, ("channels", "'many'", "at least 1")),
        ({"channels": (64, 192, 384, 256, 2.5)}, ("channels", "2.5")),
        ({"batch": 1}, ("batch", "from 2")),
        ({"batch": 8, "parts": 5}, ("parts", "too many", "5", "at most 4")),
        ({"learning_rate": -1.0}, ("learning_rate", "-1.0")),
        ({"learning_rate": float("nan")}, ("learning_rate", "nan")),
        ({"crop": 32}, ("crop", "31")),
        ({"seed": -1}, ("seed",)),
        ({"alone": 1.1}, ("alone", "from 0 to 1")),
        ({"alone": 1.0, "connectivity": "nested"}, ("alone", "nested", "below 1")),
    ],
)
def test_configs_that_make_no_sense(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(NetworkError) as error:
        TrainConfig(**changes)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), error.value


def test_the_time_left_is_by_the_pace_of_late(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 s but the first, which takes none, and the third, with an hour of sleep in it."""
    now_s, left_s = [0.0], list[float]()
    monkeypatch.setattr("dyndnn.pace.time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def on_progress(p: Progress) -> None:
        left_s.append(p.left_s)
        now_s[0] += 3600.0 if len(left_s) == 2 else 10.0

    c = config("slimmable", "single_path", epochs=(20,))
    run(c, digits, tmp_path, on_progress=on_progress)
    steps = len(left_s)
    assert steps >= 40
    assert left_s[1] == pytest.approx((steps - 2) * 10.0 / 2)
    assert left_s[2] > 3600.0
    assert left_s[20:] == pytest.approx([(steps - k - 1) * 10.0 for k in range(20, steps)], abs=1e-6)


def test_refusals(digits: Dataset, tmp_path: Path) -> None:
    c = config("group", "incremental", epochs=(1,), shares=(0.5, 1.0))
    run(c, digits, tmp_path / "a")
    calls: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: run(c, digits, tmp_path / "a"), "already holds a run; name a new folder, or go on with --resume"),
        (lambda: run(replace(c, batch=32), digits, tmp_path / "a", resume=True), "batch, value 32: cannot change"),
        (lambda: run(TrainConfig(), digits, tmp_path / "b"), "another set"),
        (lambda: run(replace(c, epochs=(1, 2, 3)), digits, tmp_path / "c"), "1 or 2 counts"),
        (lambda: run(replace(c, scheme="alone", rung=3), digits, tmp_path / "e"), "rung, value 3: no such rung"),
        (lambda: run(replace(c, widths_from="nowhere"), digits, tmp_path / "f"), "nowhere/training.json: no such file"),
        (lambda: run(replace(c, widths_from="resnet20-uniform"), digits, tmp_path / "f"), "is a resnet20; alexnet"),
        (lambda: train(c, digits, tmp_path / "g", device="gpu"), "device, value 'gpu'"),
        (lambda: train(c, digits, tmp_path / "a" / "checkpoint.npz" / "x"), "cannot be written"),
    )
    for wrong, words in calls:
        with pytest.raises(NetworkError, match=words):
            wrong()


def test_what_cannot_be_trained_is_refused_before_anything_is(digits: Dataset, tmp_path: Path) -> None:
    colored = DynamicNet(recipe("alexnet-paper").network())
    save_checkpoint(tmp_path, Checkpoint(colored.config, {}, dict(colored.state_dict())))
    c = config("slimmable", "alone", "resnet20", plan="nonuniform")
    for impossible, words in (
        (replace(c, rung=9), "rung, value 9: no such rung; from 1 to 4"),
        (replace(c, teacher=str(tmp_path)), r"teacher.*images of \(3, 32, 32\) and 10 classes; images of \(1, 8, 8\)"),
    ):
        with pytest.raises(NetworkError, match=words):
            check_run(impossible, tmp_path / "none", resume=False)


def test_divergence_is_told_and_the_last_whole_epoch_kept(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = config("group", "incremental", shares=(1.0,), epochs=(3,))
    run(c, digits, tmp_path, on_progress=stop_at("group 1", 2))
    kept = (tmp_path / CHECKPOINT).read_bytes()
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda x, *_, **__: x.sum() * torch.nan)
    with pytest.raises(NetworkError, match="group 1 of 1: diverged in epoch 2; a lower --learning-rate"):
        run(c, digits, tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
