"""What TensorBoard shows of a training: an event file, which an epoch appends to.

TensorBoard's own writer does it in a thread, where a full disk is a traceback that nobody can catch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from dyndnn.files import make_folder, unwritable


def begin_events(folder: Path, number: int) -> Path:
    """A new event file in a folder; what earlier ones have from epoch `number` on no longer counts.

    Raises NetworkError where it cannot be written.
    """
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    path = make_folder(folder) / name
    start = Event(step=number, session_log=SessionLog(status=SessionLog.START))
    _append(path, Event(file_version="brain.Event:2"), start)
    return path


def add_events(path: Path, number: int, scalars: Mapping[str, float]) -> None:
    """The figures of epoch `number`; NetworkError where they cannot be written."""
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    _append(path, Event(step=number, summary=Summary(value=values)))


def _append(path: Path, *events: Event) -> None:
    try:
        with path.open("ab") as stream:
            writer = RecordWriter(stream)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())
    except OSError as error:
        raise unwritable(path, error) from None
