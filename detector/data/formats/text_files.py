"""Text that people and tools wrote: read with plain errors, numbers checked."""

import math
import re
from pathlib import Path
from typing import Final

from detector.errors import UserError

MAX_LIST_BYTES: Final = 1 << 30
"""Largest list of images or boxes that is read: a hundred times that of COCO as CSV."""

_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines would also split at characters that may stand in a name


def read_bytes(path: Path, max_bytes: int = MAX_LIST_BYTES) -> bytes:
    """Read a file.

    Args:
        path: the file.
        max_bytes: a larger one is refused before it is read.

    Raises:
        UserError: it is missing, no regular file, too large or unreadable.
    """
    try:
        if not path.is_file():
            found = "is no regular file" if path.exists() else "does not exist"
            raise UserError(f"{path}: {found}")
        size = path.stat().st_size
        if size > max_bytes:
            raise UserError(f"{path}: has {size} bytes, expected at most {max_bytes}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}") from error


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, without their ends; a byte order mark is skipped.

    Raises:
        UserError: as :func:`read_bytes`, or it is no UTF-8 text; names the line.
    """
    return _LINE_END.split(read_text(path))


def read_text(path: Path) -> str:
    """Read a UTF-8 text file; a byte order mark is skipped.

    Raises:
        UserError: as :func:`read_bytes`, or it is no UTF-8 text; names the line.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: byte {data[error.start]:#04x} is no UTF-8 text; expected a text file in UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}:{line}: a null character; expected a text file in UTF-8")
    return text


def read_number(text: str) -> float | None:
    """Return the finite number that ``text`` is, white space around it aside; None for anything else."""
    if "_" in text or not text.isascii():  # Python would read 1_000 and digits of other scripts
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def quote(text: str) -> str:
    """Return text of a file in quotes for a message: shortened, with escapes for what a terminal cannot show."""
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(short) if short.isprintable() else ascii(short)
