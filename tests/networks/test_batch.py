"""Frames of several pictures, helpers that share them, and frames that are held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dyndnn.crew import Crew, serve_pictures
from dyndnn.errors import NetworkError
from dyndnn.frames import open_frames
from dyndnn.network import Network, softmax
from tests.serving import ROOT, command, serve


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten labelled pictures in one file."""
    path = tmp_path_factory.mktemp("batch") / "frames.npz"
    rng = np.random.default_rng(1)
    np.savez(path, frames=rng.integers(0, 256, (10, 3, 16, 16), np.uint8), labels=rng.integers(0, 10, 10))
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_a_line_per_batch(group_folder: Path, stack: Path, threads: int) -> None:
    words = ("--ladder", group_folder, "--frames", stack, "--rung", "50%", "--batch", 4, "--threads", threads)
    records, said, status = serve(*words)
    assert status == 0 and len(records) == 3  # the last goes round
    network, source = Network.load(group_folder), open_frames(stack)
    shares = [softmax(network.infer(source.load(k), "50%")) for k in range(10)]
    for n, record in enumerate(records):
        places = [(4 * n + k) % 10 for k in range(4)]
        right = sum(int(shares[k].argmax()) == source.labels[k] for k in places)
        assert (record["images"], record["labelled"], record["right"]) == (4, 4, right)
        assert record["confidence"] == pytest.approx(np.mean([shares[k].max() for k in places]), abs=1e-5)
        assert "class" not in record and record["latency_s"] > 0
    assert "served 3" in said and "of 12 labelled frames" in said


def test_a_bad_picture_refuses_its_frame(group_folder: Path, tmp_path: Path) -> None:
    for k in range(4):
        np.save(tmp_path / f"{k}.npy", np.zeros((3, 16, 16), np.uint8))
    (tmp_path / "1.npy").write_bytes(b"nothing")
    for threads in (1, 2):
        words = ("--ladder", group_folder, "--frames", tmp_path, "--batch", 2, "--threads", threads)
        records, _, status = serve(*words)
        assert status == 2 and "not a .npy array" in records[0]["error"] and records[1]["images"] == 2


@pytest.mark.parametrize("bad", [0, 2, 3])  # in its own share, and in a helper's
def test_helpers_survive_a_bad_picture(bad: int, group_folder: Path, tmp_path: Path) -> None:
    for k in range(8):
        np.save(tmp_path / f"{k}.npy", np.full((3, 16, 16), k, np.uint8))
    (tmp_path / f"{bad}.npy").write_bytes(b"nothing")
    network, source = Network.load(group_folder), open_frames(tmp_path)
    crew = Crew(["--ladder", str(group_folder.absolute()), "--frames", str(tmp_path)])
    try:
        crew.grow(2)
        helpers = crew.pids()
        for _ in range(2):
            with pytest.raises(NetworkError, match=rf"{bad}\.npy: is not a \.npy array"):
                crew.serve(network, source, 1, 0, 4, 2)
            whole = serve_pictures(network, source, 1, range(4, 8))
            assert crew.serve(network, source, 1, 4, 4, 2).confidence == pytest.approx(whole.confidence, rel=1e-5)
        assert crew.pids() == helpers
    finally:
        crew.close()


def test_held_until_told(group_folder: Path, stack: Path) -> None:
    """No frame before `hold off`; then a batch of another size at a rate; then one after the other."""
    words = ("--ladder", group_folder, "--frames", stack, "--commands", "--hold", "--batch", 2)
    with subprocess.Popen(command(*words), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        json.loads(process.stdout.readline())
        time.sleep(0.2)
        told_s = time.monotonic()
        process.stdin.write(b"batch 3\nrate 20\nhold off\n")
        process.stdin.flush()
        replies = [json.loads(process.stdout.readline()) for _ in range(3)]
        frames = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [r["command"] for r in replies] == ["batch", "rate", "hold"]
        assert [f["images"] for f in frames] == [3, 3, 3] and frames[0]["arrived_s"] >= told_s - 0.01
        assert np.diff([f["arrived_s"] for f in frames]) == pytest.approx([0.05, 0.05], abs=1e-5)
        process.stdin.write(b"batch 1\nrate none\n")
        process.stdin.flush()
        time.sleep(0.2)
        process.stdin.close()
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0 and len([r for r in rest if "class" in r]) > 5


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--batch", "0"), "a whole number from 1"),
        (("--batch", "2", "--anytime", "--deadline", "1"), "serves pictures one by one"),
        (("--hold",), "would hold for ever"),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], problem: str, group_folder: Path, stack: Path) -> None:
    _, said, status = serve("--ladder", group_folder, "--frames", stack, *words)
    assert status == 2 and problem in said and said.count("\n") == 1
    _, said, status = serve("--ladder", group_folder, *words)
    assert status == 2 and said.count("\n") == 1


def test_commands_that_cannot_be(group_folder: Path, stack: Path) -> None:
    stdin = b"batch 0\nhold maybe\nbatch 2\ndeadline 1\nanytime on\nbatch 1\nanytime on\nbatch 2\nquit\n"
    records, _, status = serve("--ladder", group_folder, "--frames", stack, "--commands", "--hold", stdin=stdin)
    assert status == 2
    assert [bool(r.get("error")) for r in records] == [True, True, False, False, True, False, False, True]


def test_commands_about_frames_that_do_not_arrive(group_folder: Path) -> None:
    """Without --frames they would change nothing, and break what comes after them."""
    stdin = b"batch 2\nrate 5\nhold on\nbatch 1\nrate none\nhold off\nthreads 2\ndeadline 1\nanytime on\nquit\n"
    records, _, status = serve("--ladder", group_folder, stdin=stdin)
    assert status == 2
    assert [r["error"] for r in records[:3]] == ["--frames: is missing; rate, hold and batch need it"] * 3
    assert not any("error" in r for r in records[3:]) and len(records) == 9


def test_a_refused_command_leaves_all_as_it_was(group_folder: Path, stack: Path, tmp_path: Path) -> None:
    """Helpers cannot start without their frames; one thread goes on with what it has read."""
    frames = Path(shutil.copy(stack, tmp_path))
    words = command("--ladder", group_folder, "--frames", frames, "--commands", "--batch", 2, "--rate", 50)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        assert "ready" in json.loads(worker.stdout.readline())
        frames.unlink()
        worker.stdin.write(b"threads 2\n")
        worker.stdin.flush()
        records = iter(lambda: json.loads(worker.stdout.readline()), None)  # type: ignore[union-attr]
        refused = next(r for r in records if r.get("command") == "threads")
        assert "a helper did not start" in refused["error"] and "no such file" in refused["error"]
        assert next(r for r in records if "frame" in r)["images"] == 2
        worker.stdin.close()
        assert worker.wait(10) == 2


def test_helpers_move_too(group_folder: Path, stack: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    words = command("--ladder", group_folder, "--frames", stack, "--commands", "--hold", "--batch", 2, "--threads", 2)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        pid = json.loads(worker.stdout.readline())["pid"]
        worker.stdin.write(f"cpus {cores[-1]}\n".encode())
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline()) == {"command": "cpus", "value": str(cores[-1])}
        helpers = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        assert len(helpers) == 1
        tasks = [int(p.name) for p in Path(f"/proc/{helpers[0]}/task").iterdir()]
        assert all(os.sched_getaffinity(task) == {cores[-1]} for task in tasks)
        worker.stdin.write(b"powersave big\n")
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline()) == {"command": "powersave", "value": "big"}
        assert os.sched_getaffinity(helpers[0]) == os.sched_getaffinity(pid)
        worker.stdin.close()
        assert worker.wait(10) == 0


def test_a_crew_that_lost_a_helper_says_so_once(group_folder: Path, stack: Path) -> None:
    network, source = Network.load(group_folder), open_frames(stack)
    crew = Crew(["--ladder", str(group_folder.absolute()), "--frames", str(stack)])
    try:
        whole = serve_pictures(network, source, 1, range(10))
        shared = crew.serve(network, source, 1, 0, 10, 1)
        assert (shared.images, shared.labelled, shared.right) == (whole.images, whole.labelled, whole.right)
        assert shared.confidence == pytest.approx(whole.confidence, rel=1e-5)
        crew._helpers[0].kill()
        with pytest.raises(NetworkError):
            crew.serve(network, source, 1, 0, 10, 1)
        assert crew.serve(network, source, 1, 5, 10, 1).images == 10
    finally:
        crew.close()
    nobody = Crew(["--ladder", str(group_folder.absolute()), "--frames", "/nowhere.npy"])
    with pytest.raises(NetworkError, match="no such file"):
        nobody.serve(network, source, 1, 0, 10, 1)
    nobody.close()
