"""Every ladder flies on every board, by a profile that says it is modelled; a bad ladder is refused in one line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hw.boardfile import board_names, load_board
from hw.catalog import open_board
from hw.check import check_board, check_spec
from hw.errors import InputError
from hw.ladderfile import LADDER_FILE, PARAM_FILE, ZOO, ladder_names, read_ladder
from hw.modelled import model_profile
from hw.profile import load_profile, open_profile, save_profile
from hw.profiletable import grid
from hw.types import OperatingPoint, Profile

every = pytest.mark.parametrize(("board", "ladder"), [(b, name) for b in board_names() for name in ladder_names()])


@every
def test_a_profile_is_whole_and_comes_back_from_its_file(board: str, ladder: str, tmp_path: Path) -> None:
    model = load_board(board)
    profile = model_profile(ladder, model)
    check_spec(model.spec, profile)
    assert (profile.name, profile.kind) == (ladder, "modelled")
    assert [(p.rung, p.unit, p.cores, p.freq_hz) for p in profile.points] == grid(model.spec, len(profile.rungs))
    assert {p.samples for p in profile.points} == {0}
    found = read_ladder(ZOO / ladder / LADDER_FILE)
    assert profile.rungs == found.rungs and all(r.macs > 0 and r.bytes > 0 for r in profile.rungs)
    assert found.sha256 in str(profile.provenance["how"]) and model.path.name in str(profile.provenance["how"])
    save_profile(profile, tmp_path / f"{board}-{ladder}.csv")
    assert load_profile(tmp_path / f"{board}-{ladder}.csv", model.spec) == profile


@every
def test_a_profile_goes_the_right_way(board: str, ladder: str) -> None:
    model = load_board(board)
    profile = model_profile(ladder, model)
    points = {(p.rung, p.unit, p.cores, p.freq_hz): p for p in profile.points}
    lowest = {c.name: c.freqs_hz[0] for c in model.spec.clocks}
    for p in profile.points:
        unit = model.spec.unit(p.unit)
        idle = model.idle_rail_w({**lowest, unit.clock: p.freq_hz}, model.reference_temp_c)
        assert p.power_w == p.rail_power_w[p.unit] >= idle[p.unit] * (1 - 1e-5)
        assert all(p.rail_power_w[r] >= idle[r] * (1 - 1e-5) for r in model.spec.rails)
        if p.rung > 1:
            assert points[p.rung - 1, p.unit, p.cores, p.freq_hz].latency_mean_s < p.latency_mean_s
        if p.cores > 1:
            fewer = points[p.rung, p.unit, p.cores - 1, p.freq_hz]
            assert fewer.latency_mean_s > p.latency_mean_s and fewer.power_w < p.power_w
    for line in {(p.rung, p.unit, p.cores) for p in profile.points}:
        along = [p for p in profile.points if (p.rung, p.unit, p.cores) == line]
        for slow, fast in pairwise(along):
            assert slow.latency_mean_s > fast.latency_mean_s and slow.power_w < fast.power_w


@every
def test_a_ladder_flies(board: str, ladder: str) -> None:
    flown = open_board(board, profile=ladder)
    check_board(flown, open_profile(load_board(board), ladder))


def test_busy_cores_draw_what_the_board_file_says() -> None:
    model = load_board("xu3")
    busy = at(model_profile("alexnet-paper", model), 4, "a15", 4, 1.8e9)
    unit = next(u for u in model.units if u.name == "a15")
    volts = model.spec.clock("a15").volts[model.spec.clock("a15").nearest(1.8e9)]
    idle = model.idle_rail_w({"a7": 2e8, "a15": 1.8e9}, model.reference_temp_c)["a15"]
    cores = (busy.power_w - idle) / (unit.conv_nf * volts**2 * 1.8)
    assert 2.0 < cores < 4.0
    heavier = replace(model, units=tuple(replace(u, conv_nf=2 * u.conv_nf) for u in model.units))
    twice = at(model_profile("alexnet-paper", heavier), 4, "a15", 4, 1.8e9)
    assert twice.power_w - idle == pytest.approx(2 * (busy.power_w - idle), rel=1e-4)


def at(profile: Profile, *key: object) -> OperatingPoint:
    return next(p for p in profile.points if (p.rung, p.unit, p.cores, p.freq_hz) == key)


# ---- names and paths ----


def test_a_ladder_opens_by_name_folder_and_file() -> None:
    model = load_board("xu3")
    digits = open_profile(model.spec, "digits")
    for other in (ZOO / "digits", str(ZOO / "digits"), ZOO / "digits" / LADDER_FILE):
        assert open_profile(model, other) == digits
    assert open_profile(model, "paper") == open_profile(model.spec, "paper")
    zoo = "alexnet-group, alexnet-nested, alexnet-paper, alexnet-slimmable, digits"
    with pytest.raises(InputError, match=rf"'digit' of board xu3; known: paper; .*{zoo}"):
        open_profile(model, "digit")
    with pytest.raises(InputError, match=f"unknown ladder 'digit'; known: {zoo}"):
        model_profile("digit", model)


def test_a_board_file_of_ones_own(tmp_path: Path) -> None:
    slower = (load_board("xu3").path.read_text()).replace(", 1.9e9, 2e9]", "]").replace(", 1.235, 1.303]", "]")
    path = tmp_path / "mine.toml"
    path.write_text(slower)
    model = load_board(path)
    assert max(p.freq_hz for p in open_profile(model, "digits").points) == 1.8e9
    with pytest.raises(InputError, match="not the one that ships"):
        open_profile(model.spec, "digits")


# ---- what is refused ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ZOO / "digits", tmp_path / "mine")
    return tmp_path / "mine"


def refused(folder: Path, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        model_profile(folder, load_board("xu3"))
    assert "\n" not in str(error.value)


def changed(change: Callable[[Any], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text[:-9], r"ladder.json:\d+: is not JSON"),
        (lambda _: "[]", "the ladder is not an object"),
        (lambda text: text.replace('"name": "digits"', '"name": "a", "name": "b"'), "a key occurs twice"),
        (lambda text: text.replace("5820", "1" * 5000), "is not a ladder"),
        (lambda _: "[" * 100_000, "is not a ladder"),
        (changed(lambda x: x.pop("rungs")), "column 'rungs': missing key in the ladder"),
        (changed(lambda x: x.update(rungs=[])), "no rungs"),
        (changed(lambda x: x.update(rungs=[7])), r"rungs\[0\] is not an object"),
        (changed(lambda x: x["rungs"][1].pop("macs")), r"column 'macs': missing key in rungs\[1\]"),
        (changed(lambda x: x["rungs"][1].update(macs=0)), r"'rungs\[1\].macs', value 0: out of range; a number from 1"),
        (changed(lambda x: x["rungs"][1].update(macs=True)), "value True: out of range"),
        (changed(lambda x: x["rungs"][1].update(macs=float("nan"))), "value nan: out of range"),
        (changed(lambda x: x["rungs"][1].update(bytes=10**400)), "out of range"),
        (changed(lambda x: x["rungs"][1].update(accuracy=96)), r"accuracy', value 96: out of range; .* 0 to 1"),
        (changed(lambda x: x["rungs"][1].update(activation_bytes="many")), "value 'many': out of range"),
        (changed(lambda x: x["rungs"].reverse()), "falls; smallest rung first"),
        (changed(lambda x: x["rungs"][2].update(name="a\nb")), "not a line of text"),
        (changed(lambda x: x["rungs"][2].update(output="out9")), "no layer writes this output of the ladder"),
        (changed(lambda x: x.update(name=" ")), "column 'name', value ' ': not a line of text"),
        (changed(lambda x: x["files"].pop(PARAM_FILE)), "missing key in files"),
        (changed(lambda x: x["files"].update({PARAM_FILE: 1})), "checksum mismatch"),
    ],
)
def test_a_wrong_ladder_is_refused(folder: Path, edit: Callable[[str], str], told: str) -> None:
    path = folder / LADDER_FILE
    path.write_text(edit(path.read_text()))
    refused(folder, told)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: "x" + text, "model.param:1: is not an ncnn model"),
        (lambda _: "", "model.param:1: is not an ncnn model"),
        (lambda text: text.replace(" 1 1 ", " 1 x ", 1), r"model.param:\d+: is not a layer"),
        (lambda text: text.replace(" 1 1 ", " 1 -1 ", 1), "is not a layer"),
        (lambda text: text.replace(" 1 1 ", " 99 1 ", 1), "is not a layer"),
        (lambda text: text.replace(" in0\n", " in9\n", 1), "no layer writes a blob that another reads"),
        (lambda text: text + "#" * 2**22, "a ladder's files have at most"),
    ],
)
def test_a_wrong_model_is_refused(folder: Path, edit: Callable[[str], str], told: str) -> None:
    text = edit((folder / PARAM_FILE).read_text())
    (folder / PARAM_FILE).write_text(text)
    if told[0] == "m" or told.startswith(("is not", "no layer")):  # a model that its ladder.json vouches for
        path = folder / LADDER_FILE
        digest = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(changed(lambda x: x["files"].update({PARAM_FILE: digest}))(path.read_text()))
    refused(folder, told)


def test_an_altered_or_missing_model_is_refused(folder: Path) -> None:
    (folder / PARAM_FILE).write_text((folder / PARAM_FILE).read_text() + "\n")
    refused(folder, "model.param: checksum mismatch; ladder.json beside it was written for another")
    (folder / PARAM_FILE).unlink()
    refused(folder, "model.param: cannot be read")
    (folder / LADDER_FILE).unlink()
    refused(folder, "ladder.json: cannot be read")


def test_layers_are_those_on_the_way_to_a_rung() -> None:
    layers = [work.layers for work in read_ladder(ZOO / "digits" / LADDER_FILE).work]
    # a group: five convolutions and four pools; then the classifier, and from the second rung on a concatenation
    assert layers == [10, 20, 29, 38]


def test_a_board_without_a_law_is_refused() -> None:
    model = load_board("xu3")
    without = replace(model, units=(replace(model.units[0], latency=None), model.units[1]))
    with pytest.raises(InputError, match=r"xu3.toml: \[unit.latency\] of unit 'a7' is missing"):
        model_profile("digits", without)
