"""Helpers that share a frame of many pictures: `python -m dyndnn.crew`, a process each, with one thread.

ncnn's own threads wait for each other at every layer, which small networks lose by and which a limited processor pays
for twice, since they wait busily. Pictures of a frame need not wait for each other at all.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyndnn.errors import NetworkError
from dyndnn.frames import Source, open_frames
from dyndnn.network import Network, softmax

ERROR = "error: "  # begins a helper's line where something is wrong
CLONE = Path(__file__).resolve().parent.parent


class Tally:
    """What came of some pictures: how many, how many of them labelled and right, and the sum of confidences."""

    def __init__(self, images: int = 0, labelled: int = 0, right: int = 0, confidence: float = 0.0) -> None:
        self.images, self.labelled, self.right, self.confidence = images, labelled, right, confidence

    def add(self, other: Tally) -> None:
        """Count another one's pictures too."""
        self.images += other.images
        self.labelled += other.labelled
        self.right += other.right
        self.confidence += other.confidence


def serve_pictures(network: Network, source: Source, rung: int, places: Sequence[int]) -> Tally:
    """Serve pictures of a source, one after the other; NetworkError where one of them is none."""
    if not places:
        return Tally()
    logits = np.stack([network.begin(source.load(place)).upto(rung) for place in places])
    shares = softmax(logits)
    labels = [source.labels[place] for place in places]
    known = [int(choice) == label for choice, label in zip(shares.argmax(1), labels, strict=True) if label is not None]
    return Tally(len(places), len(known), sum(known), float(shares.max(1).sum()))


class Crew:
    """Helper processes with a network and the frames each."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words`: the options of a helper."""
        self._words = list(words)
        self._helpers: list[subprocess.Popen[bytes]] = []

    def grow(self, size: int) -> None:
        """Have so many at least; new ones are ready when this returns.

        Raises NetworkError where one does not start; the helpers are gone then.
        """
        fresh = []
        try:
            while len(self._helpers) < size:
                words = [sys.executable, "-m", "dyndnn.crew", *self._words]
                # found as this module was, and not in anybody else's folder
                helper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CLONE)
                self._helpers.append(helper)
                fresh.append(helper)
            for helper in fresh:
                if (said := self._line(helper)).startswith(ERROR):
                    raise NetworkError(said.removeprefix(ERROR))
        except (NetworkError, OSError) as error:
            self.close()
            raise NetworkError(f"a helper did not start: {error}") from None

    def pids(self) -> list[int]:
        """Their process numbers."""
        return [helper.pid for helper in self._helpers]

    def serve(self, network: Network, source: Source, rung: int, first: int, count: int, size: int) -> Tally:
        """`count` pictures from place `first` on, round and round, shared with `size` helpers.

        Raises NetworkError where a picture is none, or where a helper died; the helpers are gone then.
        """
        self.grow(size)
        share = count // (size + 1)
        own = count - share * size
        tally, problems = Tally(), list[str]()
        try:
            for k, helper in enumerate(self._helpers[:size]):
                assert helper.stdin is not None
                helper.stdin.write(f"{rung} {first + own + k * share} {share}\n".encode())
                helper.stdin.flush()
            try:
                tally.add(serve_pictures(network, source, rung, _places(source, first, own)))
            except NetworkError as error:
                problems.append(str(error))
            for said in [self._line(helper) for helper in self._helpers[:size]]:  # all of them, else the next frame's
                if said.startswith(ERROR):
                    problems.append(said.removeprefix(ERROR))
                else:
                    images, labelled, right, confidence = said.split()
                    tally.add(Tally(int(images), int(labelled), int(right), float(confidence)))
        except (OSError, ValueError) as error:
            self.close()  # what they would say next belongs to this frame
            raise NetworkError(str(error)) from None
        if problems:
            raise NetworkError(problems[0])
        return tally

    def close(self) -> None:
        """End them all."""
        for helper in self._helpers:
            for pipe in (helper.stdin, helper.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            helper.wait()
        self._helpers = []

    def _line(self, helper: subprocess.Popen[bytes]) -> str:
        assert helper.stdout is not None
        line = helper.stdout.readline().decode("utf-8", "replace").strip()
        if not line:
            raise NetworkError("a helper died")
        return line


def _places(source: Source, first: int, count: int) -> list[int]:
    return [(first + k) % len(source) for k in range(count)]


def main() -> int:
    """Serve what the lines of standard input say, RUNG FIRST COUNT, until it ends; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dyndnn.crew", description="A helper of dyndnn.serve.")
    parser.add_argument("--ladder", required=True)
    parser.add_argument("--frames", required=True)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--lean", action="store_true")
    args = parser.parse_args()
    try:
        network = Network.load(args.ladder, threads=1, half=args.half, lean=args.lean)
        source = open_frames(args.frames)
        print("ready", flush=True)
        for line in sys.stdin:
            print(_answer(network, source, line), flush=True)
    except NetworkError as error:
        print(_wrong(error), flush=True)
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 1
    return 0


def _answer(network: Network, source: Source, line: str) -> str:
    """Serve what a line says; what came of it, as a line."""
    rung, first, count = (int(word) for word in line.split())
    try:
        tally = serve_pictures(network, source, rung, _places(source, first, count))
    except NetworkError as error:  # a bad picture costs its frame, not the helper
        return _wrong(error)
    return f"{tally.images} {tally.labelled} {tally.right} {tally.confidence}"


def _wrong(error: NetworkError) -> str:
    return ERROR + " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
