"""The worker of `dyndnn.serve`: serves one frame at a time with settings that may change between two of them.

Every event is one JSON object on one line, written at once, so that whoever started the process can measure it
from outside. Leans on NumPy and ncnn alone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dyndnn.crew import Crew
from dyndnn.errors import NetworkError
from dyndnn.frames import Source
from dyndnn.gpu import open_gpu
from dyndnn.network import Frame, Network, softmax
from dyndnn.prices import Prices, measure_prices
from dyndnn.settings import MAX_BATCH, MAX_RATE_HZ, MAX_THREADS, Settings, pin, powersave
from dyndnn.values import number, switch, whole

KEPT_LATENCIES = 100_000  # for the summary
MAX_COMMAND = 80  # characters; no command is longer

Emit = Callable[[dict[str, object]], None]


class _Loaded(NamedTuple):
    """A network on the CPU or on the GPU, and what its rungs cost."""

    network: Network
    prices: Prices


class Worker:
    """Serves, drops and refuses frames, obeys commands, and counts.

    A frame that cannot start before its deadline is dropped and is a miss; so is one that is served too late.
    Times are those of `time.monotonic`, seconds.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: Settings,
        emit: Emit,
        *,
        crew: Crew | None = None,
        source: bool = True,
        **options: Any,
    ) -> None:
        """Options are those of `Network.load`. `crew`: who helps with frames of several pictures.

        `source`: whether there are frames that arrive by themselves; commands about them are refused where not.
        Where the settings say so, the network is on the GPU too, from the start.
        """
        self.settings = settings
        self.refused = 0
        self._directory, self._options, self._emit = directory, options, emit
        self._source = source
        self._crew, self._threads = crew, int(options.get("threads", 1))
        self._frames = self._served = self._dropped = self._missed = self._labelled = self._right = 0
        self._latencies_s: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._on_cpu = self._load()
        self._on_gpu: _Loaded | None = None
        self._arrange()

    def _load(self, *, gpu: bool = False) -> _Loaded:
        """Load the network and warm it up."""
        options = {"threads": 1, "gpu": True} if gpu else {"threads": self._own_threads}
        network = Network.load(self._directory, **{**self._options, **options})
        return _Loaded(network, measure_prices(network))

    @property
    def _own_threads(self) -> int:
        """Threads of a picture: one where frames of several are shared instead."""
        return 1 if self.settings.batch > 1 else self._threads

    @property
    def _helpers(self) -> int:
        """Processes that share frames of several pictures; a GPU is one and shares with nobody."""
        return 0 if self.settings.gpu else self._threads - 1

    def _arrange(self) -> None:
        """Have the network, the threads or helpers that the settings ask for; nothing changes where that fails.

        ncnn lays out weights by the number of threads and by where they are, so another number loads the network
        again, and the CPU's and the GPU's are two that both stay: from one to the other nothing is loaded or copied.
        """
        if self.settings.gpu:
            here = self._on_gpu or self._load(gpu=True)
        else:
            here = self._on_cpu if self._on_cpu.network.threads == self._own_threads else self._load()
        if self._crew is not None and self.settings.batch > 1:
            self._crew.grow(self._helpers)
        if self.settings.gpu:
            self._on_gpu = here
        else:
            self._on_cpu = here
        self.network, self._prices = here

    def ready(self) -> None:
        """Say that frames may come."""
        self._arrange()
        ladder = self.network.ladder
        rungs = [rung.name for rung in ladder.rungs]
        told = {"ready": ladder.name, "pid": os.getpid(), "rungs": rungs, "rung": rungs[self.settings.rung]}
        gpu = {"gpu": open_gpu()} if self.settings.gpu else {}
        self._emit({**told, "shape": ladder.input.shape, "threads": self.network.threads, **gpu})

    def serve(
        self, frame: Frame, arrived_s: float, *, next_s: float = np.inf, name: str = "", label: int | None = None
    ) -> None:
        """Serve a frame that arrived at `arrived_s`; the next one is expected at `next_s`.

        A frame that the network cannot take is refused: an error line, and life goes on.
        """
        start_s = time.monotonic()
        deadline_s = np.inf if self.settings.deadline_s is None else arrived_s + self.settings.deadline_s
        if start_s >= deadline_s:
            self._drop(arrived_s, name)
            return
        rung, prices = self.settings.rung, self._prices
        try:
            inference = self.network.begin(frame)
            logits = inference.upto(rung)
            end_s = time.monotonic()
            pace = prices.pace(rung, end_s - start_s)
            while self.settings.anytime and rung + 1 < len(prices):
                if end_s + prices.upgrade_s(rung + 1, pace) > min(deadline_s, next_s):
                    prices.declined(rung + 1)
                    break
                rung += 1
                before_s, logits = end_s, inference.upto(rung)
                end_s = time.monotonic()
                prices.paid(rung, end_s - before_s, pace)
        except NetworkError as error:
            self.refuse(str(error), name)
            return
        shares = softmax(logits)
        choice = int(shares.argmax())
        told = {"class": choice, "confidence": round(float(shares[choice]), 6)}
        self._told(name, rung, told | ({} if label is None else {"label": label}), arrived_s, start_s, end_s)
        if label is not None:
            self._labelled += 1
            self._right += choice == label

    def serve_batch(self, source: Source, first: int, arrived_s: float) -> None:
        """Serve a frame of several pictures of a source, from place `first` on; it is done with its last.

        Where there are more threads than one, each takes its share of the pictures. The line tells how many `images`
        and, of those with a label, how many were `right`, in place of a class. A bad picture refuses the frame.
        """
        start_s = time.monotonic()
        name = source.names[first % len(source)]
        if self.settings.deadline_s is not None and start_s >= arrived_s + self.settings.deadline_s:
            self._drop(arrived_s, name)
            return
        rung, crew = self.settings.rung, self._crew or Crew(())
        try:
            tally = crew.serve(self.network, source, rung, first, self.settings.batch, self._helpers)
        except NetworkError as error:
            self.refuse(str(error), name)
            return
        end_s = time.monotonic()
        told = {"images": tally.images, "confidence": round(tally.confidence / tally.images, 6)}
        told |= {"labelled": tally.labelled, "right": tally.right}
        self._told(name, rung, told, arrived_s, start_s, end_s)
        self._labelled += tally.labelled
        self._right += tally.right

    def _told(
        self, name: str, rung: int, told: Mapping[str, object], arrived_s: float, start_s: float, end_s: float
    ) -> None:
        """The line of a frame that was served, and its share of the counts."""
        missed = self.settings.deadline_s is not None and end_s > arrived_s + self.settings.deadline_s
        times = {"arrived_s": arrived_s, "wait_s": start_s - arrived_s, "service_s": end_s - start_s}
        rounded = {key: round(value, 7) for key, value in {**times, "latency_s": end_s - arrived_s}.items()}
        line = {**self._count(name), "rung": self.network.ladder.rungs[rung].name, **told, **rounded}
        self._emit({**line, "missed": missed})
        self._served += 1
        self._missed += missed
        self._latencies_s.append(end_s - arrived_s)

    def refuse(self, problem: str, name: str = "") -> None:
        """Count a frame that is none, in one line."""
        self.refused += 1
        self._emit({**self._count(name), "error": " ".join(problem.split())})

    def _drop(self, arrived_s: float, name: str) -> None:
        self._dropped += 1
        self._missed += 1
        self._emit({**self._count(name), "dropped": True, "arrived_s": round(arrived_s, 7), "missed": True})

    def _count(self, name: str) -> dict[str, object]:
        self._frames += 1
        return {"frame": self._frames} | ({"name": name} if name else {})

    def obey(self, line: str) -> None:
        """Carry out a command that changes a setting; a line says what came of it."""
        word, _, value = line.strip()[:MAX_COMMAND].partition(" ")
        value = value.strip()
        try:
            self._set(word, value)
        except NetworkError as error:
            self.refused += 1
            self._emit({"command": word, "error": " ".join(str(error).split())})
            return
        self._emit({"command": word, "value": value})

    def _set(self, word: str, value: str) -> None:
        settings = self.settings
        if word == "rung":
            settings.rung = self.network.ladder.index(value)
        elif word == "deadline":
            if value == "none" and settings.anytime:
                raise NetworkError.at("deadline", "anytime needs one", want="anytime off comes first")
            settings.deadline_s = None if value == "none" else number(word, value, 1e6)
        elif word == "rate":
            rate_hz = None if value == "none" else number(word, value, MAX_RATE_HZ)
            self._check_source(needed=rate_hz is not None)
            settings.rate_hz = rate_hz
        elif word == "hold":
            hold = switch(word, value)
            self._check_source(needed=hold)
            settings.hold = hold
        elif word == "batch":
            size = whole(word, value, MAX_BATCH)
            self._check_source(needed=size > 1)
            if settings.anytime and size > 1:
                raise NetworkError.at("batch", "anytime serves pictures one by one", want="anytime off comes first")
            self._change(batch=size)
        elif word == "anytime":
            if value not in ("on", "off") or (value == "on" and settings.deadline_s is None):
                raise NetworkError.at("anytime", "not usable", value=value, want="on or off; on needs a deadline")
            if value == "on" and settings.batch > 1:
                raise NetworkError.at("anytime", "serves pictures one by one", want="batch 1 comes first")
            settings.anytime = value == "on"
        elif word == "gpu":
            self._change(gpu=switch(word, value))
        elif word == "threads":
            self._change(threads=whole(word, value, MAX_THREADS))
        elif word in ("cpus", "powersave"):
            place = pin if word == "cpus" else powersave
            place(value, () if self._crew is None else self._crew.pids())
        else:
            want = "rung, deadline, rate, hold, batch, anytime, gpu, threads, cpus, powersave, frame, raw or quit"
            raise NetworkError.at("command", "unknown", value=word, want=want)

    def _check_source(self, *, needed: bool) -> None:
        if needed and not self._source:
            raise NetworkError.at("--frames", "is missing", want="rate, hold and batch need it")

    def _change(self, *, batch: int | None = None, gpu: bool | None = None, threads: int | None = None) -> None:
        """Change what the network is arranged by; where it cannot be arranged so, all stays as it was."""
        settings = self.settings
        before = settings.batch, settings.gpu, self._threads
        settings.batch = before[0] if batch is None else batch
        settings.gpu = before[1] if gpu is None else gpu
        self._threads = before[2] if threads is None else threads
        try:
            self._arrange()
        except NetworkError:
            settings.batch, settings.gpu, self._threads = before
            raise

    def summary(self) -> str:
        """All of it in a line."""
        told = f"served {self._served}, dropped {self._dropped}, missed {self._missed}, refused {self.refused}"
        if self._latencies_s:
            median, p95 = 1e3 * np.percentile(list(self._latencies_s), (50, 95))
            told += f"; latency median {median:.3f} ms, p95 {p95:.3f} ms"
        if self._labelled:
            told += f"; {100 * self._right / self._labelled:.2f} % of {self._labelled} labelled frames right"
        return told
