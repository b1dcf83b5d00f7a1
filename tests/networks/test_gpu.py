"""A ladder on the GPU: the same logits, upgraded and moved as on the CPU, and a process that ends in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyndnn.ladder import ladder_folder
from dyndnn.network import Network
from dyndnn.settings import Settings
from dyndnn.worker import Worker
from tests.serving import Record
from tests.vulkan import NO_DEVICE, NO_DRIVER, need_vulkan

ROOT = Path(__file__).resolve().parents[2]
ZOO = ("digits", "alexnet-group")
CLOSE = 2e-5  # of the largest logit; measured 2e-6 on llvmpipe
PICTURE = bytes(range(64))  # for digits

Pair = tuple[Network, Network]


@pytest.fixture(scope="module", params=ZOO)
def pair(request: pytest.FixtureRequest) -> Pair:
    """A ladder on the CPU and on the GPU."""
    need_vulkan()
    folder = ladder_folder(request.param)
    on_cpu, on_gpu = Network.load(folder), Network.load(folder, gpu=True)
    assert (on_cpu._net.opt.use_vulkan_compute, on_gpu._net.opt.use_vulkan_compute) == (False, True)
    return on_cpu, on_gpu


def pictures(network: Network, count: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, *network.ladder.input.shape), np.uint8))


def test_logits_are_the_cpus(pair: Pair) -> None:
    on_cpu, on_gpu = pair
    for picture in pictures(on_cpu, 8):
        for rung in range(1, len(on_cpu.ladder.rungs) + 1):
            wanted = on_cpu.infer(picture, rung)
            np.testing.assert_allclose(on_gpu.infer(picture, rung), wanted, rtol=0, atol=CLOSE * abs(wanted).max())


def test_an_upgrade_goes_on_where_it_was(pair: Pair) -> None:
    """From every rung to every larger one, and the smaller one's logits stay."""
    on_cpu, on_gpu = pair
    (picture,) = pictures(on_cpu, 1)
    wanted = [on_cpu.infer(picture, k + 1) for k in range(len(on_cpu.ladder.rungs))]
    for low in range(len(wanted)):
        inference = on_gpu.begin(picture)
        first = inference.upto(low)
        for high in range(low, len(wanted)):
            atol = CLOSE * abs(wanted[high]).max()
            np.testing.assert_allclose(inference.upto(high), wanted[high], rtol=0, atol=atol)
        np.testing.assert_allclose(first, wanted[low], rtol=0, atol=CLOSE * abs(wanted[low]).max())


def test_threads_do_not_disturb_each_other(pair: Pair) -> None:
    _, on_gpu = pair
    frames = pictures(on_gpu, 3)
    wanted = [on_gpu.infer(frame, 4) for frame in frames]
    far: list[float] = []

    def serve(k: int) -> None:
        far.extend(float(abs(on_gpu.infer(frames[k], 4) - wanted[k]).max()) for _ in range(10))

    threads = [threading.Thread(target=serve, args=(k,)) for k in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(far) == 30 and max(far) < 1e-4


def test_both_networks_stay() -> None:
    """From one to the other and back nothing is loaded, whatever was said of threads meanwhile."""
    need_vulkan()
    worker = Worker(ladder_folder("digits"), Settings(gpu=True), list[Record]().append, threads=1)
    on_gpu = worker.network
    worker.obey("gpu off")
    on_cpu = worker.network
    assert on_cpu is not on_gpu
    worker.obey("gpu on")
    worker.obey("threads 2")
    assert worker.network is on_gpu
    worker.obey("threads 1")
    worker.obey("gpu off")
    assert worker.network is on_cpu
    assert worker.refused == 0


# -- as whoever starts it sees it ---------------------------------------------------------------------------------


def serve(*words: str, stdin: bytes = b"", driver: bool = True) -> tuple[list[dict[str, Any]], str, int]:
    """Records, standard error, exit status."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dyndnn.serve", "--ladder", "digits", *words],
        cwd=ROOT,
        env=None if driver else NO_DRIVER,
        input=stdin,
        capture_output=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode(), done.returncode


def test_it_moves_without_a_restart() -> None:
    need_vulkan()
    frame = b"raw 64\n" + PICTURE
    anytime = b"deadline 60\nanytime on\n" + frame
    records, said, status = serve("--gpu", stdin=frame + b"gpu off\n" + frame + b"gpu on\n" + frame + anytime)
    assert status == 0 and records[0]["gpu"]
    assert said.startswith("served 4, ") and said.count("\n") == 1  # none of the driver's own lines
    assert [r.get("command", r.get("rung")) for r in records[1:]] == [
        *("25%", "gpu", "25%", "gpu", "25%", "deadline", "anytime", "100%")
    ]
    served = [r for r in records if "class" in r]
    assert len({r["class"] for r in served[:3]}) == 1
    assert max(r["confidence"] for r in served[:3]) - min(r["confidence"] for r in served[:3]) < 1e-5


def test_it_can_come_to_the_gpu_later() -> None:
    need_vulkan()
    records, _, status = serve(stdin=b"gpu on\nraw 64\n" + PICTURE)
    assert status == 0 and "gpu" not in records[0] and "class" in records[2]


def test_frames_of_many_pictures(tmp_path: Path) -> None:
    """On a GPU no helper shares them."""
    need_vulkan()
    np.savez(tmp_path / "many.npz", frames=np.zeros((4, 1, 8, 8), np.uint8), labels=np.zeros(4, int))
    words = ("--frames", str(tmp_path / "many.npz"), "--batch", "8", "--threads", "2", "--count", "2")
    records, _, status = serve("--gpu", *words)
    assert status == 0 and [r["images"] for r in records[1:]] == [8, 8]


@pytest.mark.parametrize(("ends", "status"), [("reader", 1), ("interrupt", 130)])
def test_it_ends_in_order(ends: str, status: int, tmp_path: Path) -> None:
    """Whatever it was at: networks go before the device, or the driver crashes."""
    need_vulkan()
    np.save(tmp_path / "zero.npy", np.zeros((4, 1, 8, 8), np.uint8))
    words = [
        sys.executable,
        "-m",
        "dyndnn.serve",
        "--ladder",
        "digits",
        "--gpu",
        "--frames",
        str(tmp_path / "zero.npy"),
    ]
    with subprocess.Popen(
        [*words, "--seconds", "60"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None and worker.stderr is not None
        for _ in range(20):
            worker.stdout.readline()
        if ends == "interrupt":
            worker.send_signal(signal.SIGINT)
            worker.stdout.read()
        else:
            worker.stdout.close()
        assert worker.wait(20) == status
        assert worker.stderr.read() == (b"interrupted\n" if ends == "interrupt" else b"")


def test_without_a_device() -> None:
    records, said, status = serve("--gpu", driver=False)
    assert status == 2 and not records
    assert said.startswith(f"error: GPU: {NO_DEVICE}") and said.count("\n") == 1
    assert said.endswith("; install the Vulkan driver of this board's GPU\n")
    records, _, status = serve(stdin=b"gpu on\ngpu maybe\nraw 64\n" + PICTURE, driver=False)
    assert status == 2
    assert NO_DEVICE in records[1]["error"] and "on or off" in records[2]["error"]
    assert "class" in records[3]  # life goes on, on the CPU
