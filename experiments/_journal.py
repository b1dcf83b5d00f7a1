"""What a sweep has measured, in a journal that survives a power cut."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hw.errors import InputError
from hw.files import read_bytes
from hw.profiletable import Key


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One measurement of a point."""

    key: Key
    repeat: int
    service_s: tuple[float, ...]  # per frame on a clock, from start to result
    energy_j: Mapping[str, float] | None  # per rail, over `seconds` of frames back to back
    seconds: float
    temp_c: float | None  # of the hottest node, at the end
    cut: bool = False  # the board began to throttle before it was measured as long as planned

    def line(self) -> str:
        """As a line of the journal."""
        rung, unit, cores, freq_hz = self.key
        where = {"rung": rung, "unit": unit, "cores": cores, "freq_hz": freq_hz, "repeat": self.repeat}
        rest = {"energy_j": self.energy_j, "seconds": self.seconds, "temp_c": self.temp_c, "cut": self.cut}
        return json.dumps({**where, "service_s": self.service_s, **rest}) + "\n"


class Journal:
    """Samples on disk, a line each, written out before the next point begins."""

    def __init__(self, path: Path, head: Mapping[str, object]) -> None:
        """Go on with the journal at `path`, or begin one; `head`: what must be the same for both.

        Half a line at its end (a power cut) is dropped. Raises InputError where it is one of another sweep or no
        journal, or cannot be written.
        """
        self.path = path
        self.samples: list[Sample] = []
        first = json.dumps({"sweep": head}, sort_keys=True)
        try:
            data = read_bytes(path) if path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            lines = [_text(path, n, line) for n, line in enumerate(whole.split(b"\n")[:-1], 1)]
            if lines and lines[0] != first:
                want = "the same options as before, or a new folder"
                raise InputError.at(path, "is of a sweep with other options", line=1, want=want)
            self.samples = [_sample(path, n, line) for n, line in enumerate(lines[1:], 2)]
            if data != whole:
                with path.open("r+b") as stream:
                    stream.truncate(len(whole))
            self._stream = path.open("a", encoding="utf-8")
            if not lines:
                self._append(first + "\n")
        except OSError as error:
            raise InputError.at(path, f"cannot be written: {error.strerror or error}") from None

    def add(self, sample: Sample) -> None:
        """Keep a sample. Raises InputError where the disk is full."""
        self.samples.append(sample)
        try:
            self._append(sample.line())
        except OSError as error:
            raise InputError.at(self.path, f"cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _append(self, line: str) -> None:
        self._stream.write(line)
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _text(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError.at(path, "is no text", line=number, want="delete this line, or name a new folder") from None


def _sample(path: Path, number: int, line: str) -> Sample:
    try:
        raw = json.loads(line)
        return Sample(
            key=(int(raw["rung"]), str(raw["unit"]), int(raw["cores"]), float(raw["freq_hz"])),
            repeat=int(raw["repeat"]),
            service_s=tuple(float(s) for s in raw["service_s"]),
            energy_j=raw["energy_j"],
            seconds=float(raw["seconds"]),
            temp_c=raw["temp_c"],
            cut=bool(raw.get("cut", False)),
        )
    except (ValueError, KeyError, TypeError):
        raise InputError.at(path, "is no sample", line=number, want="delete this line, or name a new folder") from None
