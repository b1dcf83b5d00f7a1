"""The worker as whoever starts it sees it: lines in, lines out, an exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dyndnn.commands import Commands, Over
from dyndnn.errors import NetworkError
from dyndnn.frames import read_frame
from dyndnn.network import Network, softmax
from dyndnn.settings import Settings
from dyndnn.worker import Worker
from tests.serving import ROOT, Record, command, serve

FRAME_KEYS = ["frame", "name", "rung", "class", "confidence", "label", "arrived_s", "wait_s", "service_s"]
FRAME_KEYS += ["latency_s", "missed"]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five good frames of four kinds, two of them labelled."""
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
    (folder / "a.ppm").write_bytes(b"P6 # a comment\n16 16\n# and another\n255\n" + pixels.tobytes())
    np.save(folder / "b.npy", np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    np.save(folder / "c.npy", (pixels.transpose(2, 0, 1) / 255).astype(np.float32))
    np.save(folder / "d.npy", np.asfortranarray(pixels.transpose(2, 0, 1)))
    (folder / "e.ppm").write_bytes(b"P6\n16 16\n255\n" + rng.integers(0, 256, 768, np.uint8).tobytes())
    (folder / "labels.csv").write_text("file,label\na.ppm,3\ne.ppm,4\n")
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled frames in one file."""
    path = tmp_path_factory.mktemp("stack") / "frames.npz"
    rng = np.random.default_rng(1)
    np.savez(path, frames=rng.integers(0, 256, (12, 3, 16, 16), np.uint8), labels=rng.integers(0, 10, 12))
    return path


LIGHT = """
import runpy, sys
sys.argv = ["serve", *sys.argv[1:]]
try:
    runpy.run_module("dyndnn.serve", run_name="__main__")
except SystemExit as leaving:
    assert not leaving.code, leaving.code
files = {name: str(getattr(module, "__file__", "")) for name, module in list(sys.modules.items())}
tops = {name.partition(".")[0] for name, file in files.items() if "site-packages" in file or "dist-packages" in file}
tops = {name for name in tops if not name.startswith("_")}
assert tops <= {"numpy", "ncnn", "dyndnn"}, sorted(tops)
assert "torch" not in sys.modules and "hw" not in sys.modules
"""


def test_serving_is_light(group_folder: Path, stack: Path) -> None:
    words = [sys.executable, "-c", LIGHT, "--ladder", str(group_folder), "--frames", str(stack)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 13


def test_a_folder_one_line_per_frame(group_folder: Path, frames: Path) -> None:
    records, said, status = serve("--ladder", group_folder, "--frames", frames, "--rung", "50%")
    assert status == 0 and len(records) == 5
    assert list(records[0]) == FRAME_KEYS
    network = Network.load(group_folder)
    for k, record in enumerate(records):
        assert record["frame"] == k + 1 and record["rung"] == "50%" and record["missed"] is False
        shares = softmax(network.infer(read_frame(record["name"]), "50%"))
        assert record["class"] == shares.argmax() and record["confidence"] == pytest.approx(shares.max(), abs=1e-5)
        assert record["latency_s"] == pytest.approx(record["wait_s"] + record["service_s"], abs=1e-6)
        assert 0 < record["service_s"] < 1
    # the first four are the same picture
    assert len({r["class"] for r in records[:4]}) == 1
    assert [r.get("label") for r in records] == [3, None, None, None, 4]
    assert said.startswith("served 5, dropped 0, missed 0, refused 0; latency median ") and "of 2 labelled" in said


def test_bad_frames_cost_a_line_each(group_folder: Path, frames: Path, tmp_path: Path) -> None:
    bad = {
        "0shape.npy": "(3, 8, 8): has another shape; (3, 16, 16) of this ladder",
        "1type.npy": "wrong type",
        "2pickle.npy": "not a .npy array of numbers",
        "3empty.npy": "not a .npy array of numbers",
        "4short.npy": "not a .npy array of numbers",
        "5text.ppm": "not a binary PPM",
        "6short.ppm": "767 bytes of pixels; 768",
        "7deep.ppm": "another maximum",
        "8grey.pgm": "has another shape",
        "9nan.npy": "outside 0..1",
    }
    np.save(tmp_path / "0shape.npy", np.zeros((3, 8, 8), np.uint8))
    np.save(tmp_path / "1type.npy", np.zeros((3, 16, 16), np.int32))
    np.save(tmp_path / "2pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "3empty.npy").write_bytes(b"")
    np.save(tmp_path / "4short.npy", np.zeros((3, 16, 16), np.uint8))
    (tmp_path / "4short.npy").write_bytes((tmp_path / "4short.npy").read_bytes()[:-1])
    (tmp_path / "5text.ppm").write_bytes(b"P3\n16 16\n255\n0 0 0")
    (tmp_path / "6short.ppm").write_bytes(b"P6\n16 16\n255\n" + bytes(767))
    (tmp_path / "7deep.ppm").write_bytes(b"P6\n16 16\n65535\n" + bytes(1536))
    (tmp_path / "8grey.pgm").write_bytes(b"P5\n16 16\n255\n" + bytes(256))
    np.save(tmp_path / "9nan.npy", np.full((3, 16, 16), np.nan))
    (tmp_path / "z.ppm").write_bytes((frames / "a.ppm").read_bytes())
    (tmp_path / "notes.txt").write_text("no frame")
    records, said, status = serve("--ladder", group_folder, "--frames", tmp_path)
    assert status == 2 and len(records) == len(bad) + 1
    for record, (name, problem) in zip(records, bad.items(), strict=False):
        assert Path(record["name"]).name == name and problem in record["error"], record
    assert records[-1]["rung"] == "25%"  # life goes on
    assert "served 1, dropped 0, missed 0, refused 10" in said


def test_standard_input(group_folder: Path, frames: Path) -> None:
    network = Network.load(group_folder)
    raw = np.load(frames / "b.npy").tobytes()
    lines: list[bytes] = [
        f"frame {frames / 'a.ppm'} 3\n".encode(),
        b"rung 75%\n",
        b"\n",
        b"raw 768 7\n" + raw,
        b"rung 4\n",
        f"frame {frames / 'e.ppm'}\n".encode(),
        b"threads 2\n",
        b"raw 768\n" + raw,
        b"deadline 5\n",
        b"anytime on\n",
        b"rung 1\n",
        b"raw 768\n" + raw,
        b"quit\n",
        b"raw 768\n" + raw,
    ]
    records, _, status = serve("--ladder", group_folder, stdin=b"".join(lines))
    assert status == 0
    assert [r.get("command") or r["rung"] for r in records] == [
        *("25%", "rung", "75%", "rung", "100%", "threads", "100%", "deadline", "anytime", "rung", "100%")
    ]
    served = [r for r in records if "frame" in r]
    assert [r.get("label") for r in served] == [3, 7, None, None, None]
    picture = read_frame(frames / "b.npy")
    for record, rung in zip(served, ("25%", "75%", None, "100%", "100%"), strict=True):
        if rung is not None:
            assert record["confidence"] == pytest.approx(softmax(network.infer(picture, rung)).max(), abs=1e-5)


def test_nonsense_on_standard_input(group_folder: Path, frames: Path) -> None:
    nonsense: list[tuple[bytes, str]] = [
        (b"rung 99%\n", "unknown rung '99%'; it has 25%, 50%, 75%, 100%"),
        (b"rung\n", "unknown rung"),
        (b"rung 0000000010\n", "unknown rung '0000000010'"),
        (b"jump\n", "unknown; rung, deadline"),
        (b"rate fast\n", "rate"),
        (b"rate nan\n", "rate"),
        (b"rate 1e-12\n", "a number from 1e-06"),
        (b"deadline -1\n", "deadline"),
        (b"threads 0\n", "threads"),
        (b"threads many\n", "threads"),
        (b"cpus 4000\n", "cpus"),
        (b"cpus 1;2\n", "cpus"),
        (b"powersave medium\n", "one of all, little, big"),
        (b"anytime on\n", "on needs a deadline"),
        (b"frame /no/such/file.ppm\n", "No such file"),
        (b"frame /etc/passwd\n", "unknown kind"),
        (b"frame a\0.ppm\n", "cannot be read: embedded null byte"),
        (b"frame a\0.npy\n", "is not a .npy array"),
        (b"frame\n", "unknown kind"),
        (b"raw 3\nabc", "3 bytes; 768"),
        (b"raw -1\n", "raw, value '-1': not usable; a whole number from 1"),
        (b"raw 99999999999999999999\n", "not usable"),
        (b"raw 0000000000009999999999\n", "not usable"),
        (b"raw 768 1000000\n" + bytes(768), "label, value '1000000': not usable; a whole number from 0 to 999999"),
        (f"frame {frames / 'a.ppm'} {'9' * 5000}\n".encode(), "label, value '9999"),
        (b"\xff\xfe\x00\n", "unknown"),
        (b"x" * 300_000 + b"\n", "unknown"),
    ]
    stdin = b"".join(line for line, _ in nonsense) + b"raw 768\n" + bytes(768)
    records, said, status = serve("--ladder", group_folder, stdin=stdin)
    assert status == 2 and len(records) == len(nonsense) + 1
    for record, (line, problem) in zip(records, nonsense, strict=False):
        assert problem in record["error"], (line[:40], record)
        assert len(record["error"]) < 300
    assert records[-1]["rung"] == "25%" and f"refused {len(nonsense)}" in said


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        (b"raw 768\nabc", "standard input: ended after 3 bytes of a frame; 768, as its line says"),
        (b"raw 768\n", "ended after 0 bytes"),
        (b"rung 9", "unknown rung '9'"),
        (b"rung 2", None),
        (b"  ", None),
        (b"quit", None),
    ],
)
def test_input_that_is_cut_off(stdin: bytes, problem: str | None, group_folder: Path) -> None:
    records, _, status = serve("--ladder", group_folder, stdin=stdin)
    if problem is not None:
        assert status == 2 and len(records) == 1 and problem in records[0]["error"]
    else:
        assert status == 0 and records == ([{"command": "rung", "value": "2"}] if stdin == b"rung 2" else [])


def test_a_large_frame_in_many_parts_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.random.default_rng(0).bytes(3_000_000)
    text = f"rung 2\nraw {len(frame)}\n".encode() + frame + b"rung 3\n" + frame[:5]
    parts = iter([text[k : k + 1000] for k in range(0, len(text), 1000)] + [b""] * 2)
    monkeypatch.setattr("dyndnn.commands.os", SimpleNamespace(read=lambda *_: next(parts)))
    monkeypatch.setattr("dyndnn.commands.select", SimpleNamespace(select=lambda *_: ([0], [], [])))
    commands = Commands()
    assert [commands.line(None), commands.line(None)] == ["rung 2", f"raw {len(frame)}"]
    assert commands.take(len(frame)) == frame
    assert commands.line(None) == "rung 3"
    with pytest.raises(NetworkError, match="ended after 5 bytes of a frame; 6"):
        commands.take(6)
    with pytest.raises(Over):
        commands.line(None)


def test_a_camera_keeps_time(group_folder: Path, stack: Path) -> None:
    records, said, status = serve("--ladder", group_folder, "--frames", stack, "--rate", 200, "--count", 30)
    assert status == 0 and len(records) == 30
    arrivals = np.array([r["arrived_s"] for r in records])
    np.testing.assert_allclose(np.diff(arrivals), 1 / 200, atol=1e-6)
    assert all(r["wait_s"] >= 0 for r in records)
    assert records[12]["name"].endswith("[0]") and records[12]["label"] == records[0]["label"]  # round and round
    assert "30 labelled" in said


def test_a_camera_that_is_too_fast_drops_frames(group_folder: Path, stack: Path) -> None:
    # faster than any machine serves the largest rung, slower than any says that it dropped one; the
    # deadline is long enough for a busy machine to start on time
    words = ("--frames", stack, "--rung", 4, "--rate", 2e4, "--deadline", 0.02, "--count", 4000)
    records, said, status = serve("--ladder", group_folder, *words)
    assert status == 0 and len(records) == 4000
    dropped = [r for r in records if r.get("dropped")]
    served = [r for r in records if "class" in r]
    assert dropped and served and len(dropped) + len(served) == 4000
    assert all(r["missed"] for r in dropped)
    for record in served:
        assert record["wait_s"] < 0.02  # who cannot start in time is not served
        if abs(record["latency_s"] - 0.02) > 1e-6:
            assert record["missed"] == (record["latency_s"] > 0.02)
    missed = sum(r["missed"] for r in records)
    assert said.startswith(f"served {len(served)}, dropped {len(dropped)}, missed {missed}, refused 0;")


def test_a_camera_obeys_while_it_runs(group_folder: Path, stack: Path) -> None:
    words = command("--ladder", group_folder, "--frames", stack, "--rate", 500, "--commands")
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        assert "ready" in worker.stdout.readline()
        for name in ("100%", "50%"):
            worker.stdin.write(f"rung {name}\n")
            worker.stdin.flush()
            seen = [json.loads(worker.stdout.readline()) for _ in range(40)]
            at = next(k for k, r in enumerate(seen) if r.get("command") == "rung")
            assert {r["rung"] for r in seen[at + 1 :]} == {name}
        worker.stdin.close()  # whoever started it is gone
        rest = worker.stdout.read()
        assert worker.wait(10) == 0 and len(rest.splitlines()) < 500


def test_seconds(group_folder: Path, stack: Path) -> None:
    words = ("--ladder", group_folder, "--frames", stack)
    records, _, status = serve(*words, "--rate", 100, "--seconds", 0.3)
    assert status == 0 and 10 <= len(records) <= 30  # fewer where the machine is busy
    records, _, status = serve(*words, "--seconds", 0.2)  # back to back
    assert status == 0 and len(records) > 30


def test_threads_may_be_moved(group_folder: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    words = command("--ladder", group_folder, "--threads", 2)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        pid = json.loads(worker.stdout.readline())["pid"]
        worker.stdin.write(f"cpus {cores[-1]}\n")
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline()) == {"command": "cpus", "value": str(cores[-1])}
        tasks = [int(p.name) for p in Path(f"/proc/{pid}/task").iterdir()]
        assert len(tasks) >= 2  # those of ncnn follow too
        assert all(os.sched_getaffinity(task) == {cores[-1]} for task in tasks)
        worker.stdin.close()
        assert worker.wait(10) == 0


def test_what_cannot_be_loaded_again_is_served_on(ladder_copy: Path) -> None:
    """Another count of threads needs the files: where they are altered meanwhile, the command is refused."""
    told: list[Record] = []
    worker = Worker(ladder_copy, Settings(), told.append, threads=1)
    frame = np.zeros((3, 16, 16), np.uint8)
    worker.serve(frame, time.monotonic())
    (ladder_copy / "model.bin").write_bytes(b"")
    for word in ("threads 2", "batch 2", "threads 2"):  # frames of several pictures need no other network
        worker.obey(word)
        worker.serve(frame, time.monotonic())
    before, refused, after, batched, shared, grown, last = told
    assert "was altered" in refused["error"] and "error" not in batched | grown
    assert [r["confidence"] for r in (before, after, shared, last)] == [before["confidence"]] * 4
    assert worker.network.threads == 1


def test_interrupted_and_a_reader_that_went_away(group_folder: Path, stack: Path) -> None:
    words = command("--ladder", group_folder, "--frames", stack, "--rate", 100, "--seconds", 60)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout is not None and worker.stderr is not None
        worker.stdout.readline()
        worker.send_signal(signal.SIGINT)
        assert worker.wait(10) == 130 and worker.stderr.read() == b"interrupted\n"
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout is not None and worker.stderr is not None
        worker.stdout.readline()
        worker.stdout.close()
        assert worker.wait(10) == 1 and worker.stderr.read() == b""


def test_a_full_disk(group_folder: Path, stack: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        words = command("--ladder", group_folder, "--frames", stack)
        done = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    said = b"error: standard output: cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)
