"""``metrics.jsonl``: one strict JSON object a line, readable by other programs while the run goes on."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from detector.telemetry.full_disk import suppress_full_disk
from detector.telemetry.json_values import JsonRow


class MetricsFile:
    """Appends rows to a JSON-lines file, after :func:`truncate_rows` has removed what a resumed run writes again.

    On a full disk rows wait in memory, and are written with the first row that finds room: the file has whole rows in
    their order, and no gap.

    Args:
        path: the file, made if missing.
        start_step: optimiser steps already done; 0 starts an empty file.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, *, start_step: int = 0) -> None:
        self.num_removed = truncate_rows(path, start_step)
        """Lines that were removed at opening."""
        self._file = path.open("ab", buffering=0)
        self._waiting = b""

    @property
    def is_behind(self) -> bool:
        """Whether rows wait for room on the disk."""
        return bool(self._waiting)

    def write(self, row: JsonRow) -> None:
        """Append one row.

        Raises:
            ValueError: a value is NaN or infinite (JSON has neither), or the file is closed.
        """
        # One write call for the whole line: a reader never sees half a row, a kill loses none.
        self._waiting += (json.dumps(row, allow_nan=False) + "\n").encode()
        with suppress_full_disk():
            self._write_waiting()

    def flush(self) -> None:
        """Bring all rows to the disk.

        Raises:
            OSError: it is full.
        """
        self._write_waiting()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; closing twice is fine.

        Raises:
            OSError: the disk is full, and rows are lost.
        """
        try:
            if not self._file.closed:
                self._write_waiting()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.close()

    def _write_waiting(self) -> None:
        whole = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(self._waiting)
            while rest:  # a disk that becomes full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            os.ftruncate(self._file.fileno(), whole)
            error.filename = str(self._file.name)
            raise
        self._waiting = b""


def truncate_rows(path: Path, start_step: int) -> int:
    """Remove the rows that a run resumed after ``start_step`` steps is going to write again.

    Kept are rows with ``step <= start_step``, unchanged to the byte; with ``start_step`` 0 nothing is kept. Removed
    with the later rows are lines that are no row, such as the torn last line of a killed process. The file is
    replaced as a whole: a kill in between leaves the old one.

    Args:
        path: the file; nothing happens if it does not exist.
        start_step: optimiser steps already done.

    Returns:
        Number of lines removed.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    kept = [line for line in lines if start_step > 0 and _is_row_until(line, start_step)]
    new_content = b"".join(line + b"\n" for line in kept)
    if new_content != content:
        replacement = path.with_name(f"{path.name}.tmp")
        with replacement.open("wb") as file:
            file.write(new_content)
            file.flush()
            os.fsync(file.fileno())
        replacement.replace(path)
    return len(lines) - len(kept)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metrics file, one at a time; nothing if it does not exist.

    Args:
        path: the file, as :func:`truncate_rows` or a finished run left it.

    Raises:
        ValueError: a line is not JSON.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _is_row_until(line: bytes, last_step: int) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # torn or not JSON; undecodable bytes raise a subclass of ValueError, too
        return False
    step = row.get("step") if isinstance(row, dict) else None
    return isinstance(step, int) and step <= last_step
