"""``metrics.jsonl``: one strict JSON object a line, readable by other programs while the run goes on."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from detector.telemetry.json_values import JsonRow


class MetricsFile:
    """Appends rows to a JSON-lines file, after :func:`truncate_rows` has removed what a resumed run writes again.

    Args:
        path: the file, made if missing.
        start_step: optimiser steps already done; 0 starts an empty file.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, *, start_step: int = 0) -> None:
        self.num_removed = truncate_rows(path, start_step)
        """Lines that were removed at opening."""
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self, row: JsonRow) -> None:
        """Append one row.

        Raises:
            ValueError: a value is NaN or infinite (JSON has neither), or the file is closed.
        """
        # One write call for the whole line, flushed: a reader never sees half a row, a kill loses none.
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.close()


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
