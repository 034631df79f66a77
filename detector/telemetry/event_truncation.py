"""TensorBoard's event files of a run that goes on, cut where it goes on: what follows is written again."""

import struct
from pathlib import Path
from typing import Final

from tensorboard.compat.proto.event_pb2 import Event

EVENT_FILES: Final = "events.out.tfevents.*"

_HEADER: Final = struct.Struct("<QI")
"""Length of a record and the checksum of the length; behind the record comes its own checksum (TFRecord format)."""
_FOOTER_BYTES: Final = 4


def truncate_events(log_dir: Path, start_step: int) -> None:
    """Cut every event file of a folder before the first event that lies after ``start_step`` steps.

    A record that a kill has torn, or that is none, is cut off with all behind it. With ``start_step`` 0 the files are
    removed.

    Args:
        log_dir: folder of the event files; may be missing.
        start_step: optimiser steps already done.
    """
    for path in log_dir.glob(EVENT_FILES):
        if start_step == 0:
            path.unlink()
            continue
        size = _size_until(path, start_step)
        if size < path.stat().st_size:
            with path.open("rb+") as file:
                file.truncate(size)


def _size_until(path: Path, last_step: int) -> int:
    """Return how many bytes of a file are whole records with steps up to ``last_step``."""
    size, end = 0, path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, _ = _HEADER.unpack(header)
            if size + _HEADER.size + length + _FOOTER_BYTES > end:
                break
            record = file.read(length + _FOOTER_BYTES)
            try:
                event = Event.FromString(record[:length])
            except Exception:  # protobuf's, which is tensorboard's affair
                break
            if event.step > last_step:
                break
            size += _HEADER.size + len(record)
    return size
