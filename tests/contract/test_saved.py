"""A policy file comes from outside: it flies as it was saved, or is refused in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.policy import make_policy
from agents.policy_file import FORMAT_VERSION, MAX_BYTES, MAX_MEMBERS
from agents.runtime import control
from agents.saved import SavedPolicy
from envs.actions import ActionView
from envs.codec import Codec
from envs.families import scenario_set
from hw.boardfile import load_board
from hw.catalog import open_board
from hw.errors import InputError
from hw.profile import load_profile, open_profile, save_profile
from hw.types import BoardSpec, Demand, Profile
from tests.untrained import untrained_policy


@pytest.fixture(scope="module")
def spec() -> BoardSpec:
    return load_board("xu3").spec


@pytest.fixture(scope="module")
def profile(spec: BoardSpec) -> Profile:
    return open_profile(spec, None)


@pytest.fixture
def policy(spec: BoardSpec, profile: Profile) -> SavedPolicy:
    return untrained_policy(spec, profile)


@pytest.fixture
def saved(policy: SavedPolicy, tmp_path: Path) -> Path:
    path = tmp_path / "policy.npz"
    policy.save(path)
    return path


def rewrite(path: Path, **changes: Any) -> None:
    """Change members of the file (None takes one away) behind the back of its seal."""
    with np.load(path, allow_pickle=False) as found:
        members: dict[str, Any] = {name: found[name] for name in found.files}
    members |= changes
    np.savez(path, **{name: array for name, array in members.items() if array is not None})


def rewrite_header(path: Path, **changes: Any) -> None:
    with np.load(path, allow_pickle=False) as found:
        header = json.loads(found["header"].tobytes())
    header |= changes
    rewrite(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8))


def refused(path: Path, text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        SavedPolicy.load(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path))


@pytest.mark.parametrize("view", ["multi", "flat"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_round_trip(spec: BoardSpec, profile: Profile, view: ActionView, activation: str, tmp_path: Path) -> None:
    policy = untrained_policy(spec, profile, view=view, activation=activation)
    policy.save(tmp_path / "policy.npz")
    again = make_policy(str(tmp_path / "policy.npz"))
    assert isinstance(again, SavedPolicy) and again.header == policy.header
    again.reset(spec, profile)
    rng = np.random.default_rng(0)
    for _ in range(50):
        observation = rng.normal(size=policy.header.sizes[0]).astype(np.float32)
        assert np.array_equal(again.predict(observation), policy.predict(observation))
        x = observation
        for i, (w, b) in enumerate(policy.layers):
            x = w @ x + b
            if i < len(policy.layers) - 1:
                x = np.tanh(x) if activation == "tanh" else np.maximum(x, 0)
        assert np.allclose(policy.logits(observation), x, atol=1e-4)


def test_mask_is_obeyed(policy: SavedPolicy) -> None:
    rng = np.random.default_rng(1)
    ends = np.cumsum(policy.header.nvec)
    for _ in range(200):
        mask = rng.random(ends[-1]) < 0.3
        mask[ends - 1] = True
        action = policy.predict(rng.normal(size=policy.header.sizes[0]).astype(np.float32), mask)
        assert mask[np.asarray(action) + ends - policy.header.nvec].all()


@pytest.mark.parametrize("masked", [True, False])
def test_a_policy_flies_with_masks_where_it_learned_with_them(
    policy: SavedPolicy, spec: BoardSpec, profile: Profile, masked: bool
) -> None:
    """It likes rung 1 best, which meets no floor; where no rung does the most accurate one is left."""
    layers = [(np.zeros_like(w), np.zeros_like(b)) for w, b in policy.layers]
    layers[-1][1][0] = 1.0
    pilot = SavedPolicy(replace(policy.header, masked=masked), layers)
    pilot.reset(spec, profile)
    demand = Demand(rate_hz=1.0, deadline_s=1.0, accuracy_min=1.0, energy_budget_j=1.0, goal="min_energy")
    asked = pilot.act(open_board("xu3").reset(seed=0), demand)
    assert asked.rung == (len(profile.rungs) if masked else 1)


@pytest.mark.parametrize("view", ["multi", "flat"])
def test_flies(spec: BoardSpec, profile: Profile, view: ActionView) -> None:
    """Through the one loop on a simulated board; a masked policy never asks for a rung below the floor."""
    policy = untrained_policy(spec, profile, view=view)
    scenario = scenario_set("held_out", spec, profile, 1, seed=2)[0]
    floors: list[float] = []
    flight = control(
        open_board("xu3"),
        policy,
        scenario,
        profile,
        seed=0,
        on_interval=lambda k, d, t: floors.append(d.accuracy_min),
    )
    best = max(rung.accuracy for rung in profile.rungs)
    asked = [profile.rung(telemetry.asked.rung).accuracy for telemetry in flight]
    assert all(a >= min(floor, best) - 1e-6 for a, floor in zip(asked, floors, strict=True))
    assert len({telemetry.asked.rung for telemetry in flight}) > 1


def test_same_bytes_again(policy: SavedPolicy, saved: Path, tmp_path: Path) -> None:
    SavedPolicy.load(saved).save(tmp_path / "again.npz")
    with np.load(saved) as a, np.load(tmp_path / "again.npz") as b:
        assert a.files == b.files and all(np.array_equal(a[n], b[n]) for n in a.files)


def test_act_before_reset_is_a_bug(policy: SavedPolicy) -> None:
    with pytest.raises(RuntimeError, match="reset"):
        policy.act(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    refused(saved, "truncated, damaged or not an .npz")


def test_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "cannot be read")
    refused(tmp_path, "cannot be read")


def test_a_bare_pickle(saved: Path) -> None:
    saved.write_bytes(pickle.dumps({"w0": [1.0]}))
    refused(saved, "not an .npz")


def test_every_flipped_byte_of_the_body(saved: Path, policy: SavedPolicy) -> None:
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        saved.write_bytes(damaged)
        try:
            again = SavedPolicy.load(saved)
        except InputError as error:
            assert "\n" not in str(error)
        else:  # a byte of the container that says nothing, such as a date
            assert again.header == policy.header
            for (w, b), (v, c) in zip(again.layers, policy.layers, strict=True):
                assert np.array_equal(w, v) and np.array_equal(b, c)


def test_tampered_weight(saved: Path, policy: SavedPolicy) -> None:
    weights = policy.layers[1][0].copy()
    weights[2, 3] += 1e-3
    rewrite(saved, w1=weights)
    refused(saved, "checksum does not match")


def test_tampered_header(saved: Path) -> None:
    rewrite_header(saved, board="other")
    refused(saved, "checksum does not match")


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (Path.touch, (Path("unpickled"),))  # type: ignore[return-value]


def test_pickled_object(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(saved, w0=np.array([Bomb()], dtype=object))
    refused(saved, "holds a pickled object")
    assert not (tmp_path / "unpickled").exists()


def test_unknown_version(saved: Path) -> None:
    rewrite_header(saved, format_version=FORMAT_VERSION + 1)
    refused(saved, f"unknown format version; this Powerband reads version {FORMAT_VERSION}")


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"extra": np.zeros(3, np.float32)}, "'extra': unexpected array"),
        ({"b1": None}, "'b1': missing array"),
        ({"header": None}, "no header"),
        ({"sha256": None}, "no header"),
        ({"header": np.frombuffer(b"{", np.uint8)}, "header is not JSON"),
        ({"header": np.frombuffer(b"[" * 9999, np.uint8)}, "header is not JSON"),
        ({"header": np.frombuffer(b"[1]", np.uint8)}, "unknown format version"),
        ({"b1": np.zeros(5, np.float32)}, r"'b1': has shape \(5,\); shape \(16,\)"),
        ({"b1": np.zeros(16)}, "float64; float32"),
        ({"b1": np.full(16, np.nan, np.float32)}, "'b1': holds NaN or infinity"),
        ({"b1": np.full(16, np.inf, np.float32)}, "'b1': holds NaN or infinity"),
        ({"b1": np.zeros(MAX_BYTES // 4, np.float32)}, "at most"),
    ],
)
def test_wrong_members(saved: Path, changes: dict[str, Any], text: str) -> None:
    rewrite(saved, **changes)
    refused(saved, text)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"activation": "softplus"}, "unknown activation; one of tanh, relu"),
        ({"sizes": [3]}, "one logit per choice"),
        ({"sizes": [3, -1]}, "not a list of counts"),
        ({"sizes": [1] * 100_000, "nvec": [1]}, r"not a list of counts; 1 to 32 whole numbers of at least 1$"),
        ({"sizes": "many"}, "wrong type"),
        ({"masked": "yes"}, "wrong type"),
        ({"board_hash": None}, "wrong type"),
        ({"surprise": 1}, "'surprise': header: unknown entry"),
    ],
)
def test_wrong_header(saved: Path, changes: dict[str, Any], text: str) -> None:
    rewrite_header(saved, **changes)
    refused(saved, text)


def test_array_that_claims_to_be_huge(saved: Path) -> None:
    """A file of a few bytes that says it holds 4 TB must not make us allocate them."""
    stream = io.BytesIO()
    head: Any = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    np.lib.format.write_array_header_1_0(stream, head)
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("w9.npy", stream.getvalue() + b"\0" * 16)
    refused(saved, "16 bytes for shape")


@pytest.mark.parametrize("parts", [1, 2])
def test_compressed_bomb(saved: Path, parts: int) -> None:
    with zipfile.ZipFile(saved, "a", zipfile.ZIP_DEFLATED) as archive:
        for i in range(parts):
            archive.writestr(f"w{9 + i}.npy", b"\0" * (MAX_BYTES // parts + 1))
    refused(saved, "too large")


def test_a_file_that_is_too_large_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(saved, MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("was read"))
    refused(saved, f"has {MAX_BYTES + 1} bytes; a policy has at most {MAX_BYTES}$")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [(MAX_MEMBERS, "unexpected array"), (MAX_MEMBERS + 1, f"is not a policy: {MAX_MEMBERS + 1} arrays")],
)
def test_more_arrays_than_a_policy_has(saved: Path, arrays: int, text: str) -> None:
    with np.load(saved) as found:
        own = len(found.files)
    rewrite(saved, **{f"x{i}": np.zeros(1, np.float32) for i in range(arrays - own)})
    refused(saved, text)


def test_an_array_header_that_does_not_end(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (((((((1"
        archive.writestr("b9.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(saved, "truncated, damaged or not an .npz")


@pytest.mark.parametrize("kind", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compressed_as_no_npz_is(saved: Path, kind: int) -> None:
    with zipfile.ZipFile(saved, "a", kind) as archive:
        archive.writestr("b9.npy", bytes(range(256)) * 9)
        place = archive.getinfo("b9.npy").header_offset + 60
    data = bytearray(saved.read_bytes())
    data[place : place + 9] = bytes(9)
    saved.write_bytes(data)
    refused(saved, "compressed as no .npz is")


@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_what_is_no_file(path: str) -> None:
    refused(Path(path), "cannot be read: it is no file; a file written by train_agent.py")


def test_the_same_name_twice(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        weights = archive.read("w0.npy")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("w0.npy", weights)
    refused(saved, "is not a policy")


def test_another_board(policy: SavedPolicy, spec: BoardSpec, profile: Profile) -> None:
    with pytest.raises(InputError, match="was trained for board 'xu3'"):
        policy.reset(replace(spec, name="other", hash="0" * 64), profile)


def test_another_profile(policy: SavedPolicy, spec: BoardSpec, profile: Profile) -> None:
    with pytest.raises(InputError, match="was trained with profile"):
        policy.reset(spec, replace(profile, name="other", checksum="0" * 64))


def test_a_retrained_ladder(policy: SavedPolicy, spec: BoardSpec, profile: Profile, tmp_path: Path) -> None:
    """Accuracies are in no profile's table, so the checksum does not know them; the policy's masks do."""
    save_profile(profile, tmp_path / "same.csv")
    policy.reset(spec, load_profile(tmp_path / "same.csv", spec))
    rungs = (*profile.rungs[:-1], replace(profile.rungs[-1], accuracy=profile.rungs[-1].accuracy + 0.01))
    with pytest.raises(InputError, match=r"of other accuracies \([0-9., ]+\).*; train on this one") as caught:
        policy.reset(spec, replace(profile, rungs=rungs))
    assert "\n" not in str(caught.value)


def test_a_codec_of_another_size(policy: SavedPolicy, spec: BoardSpec, profile: Profile) -> None:
    flat = Codec(spec, profile, "flat").to_json()
    with pytest.raises(InputError, match="do not fit its codec"):
        SavedPolicy(replace(policy.header, codec=flat), policy.layers).reset(spec, profile)
    with pytest.raises(InputError, match="header: codec: needs exactly the keys"):
        SavedPolicy(replace(policy.header, codec={}), policy.layers).reset(spec, profile)


def test_nowhere_to_write(policy: SavedPolicy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        policy.save(tmp_path / "no" / "folder" / "policy.npz")
    assert not list(tmp_path.iterdir())
