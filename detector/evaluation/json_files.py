"""JSON files that people hand over or read later: plain errors in, whole files out."""

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from detector.errors import UserError


def read_json(path: Path, *, strict: bool = False, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        object_hook: as for :func:`json.loads`, called with every object.
        strict: reject ``NaN`` and ``Infinity``, which Python's parser accepts although JSON has no such numbers.

    Raises:
        UserError: the file is missing, unreadable, empty, no UTF-8 or no JSON; names the file and the place.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a JSON file (byte {error.start} is not UTF-8 text)") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty, expected JSON")

    def reject(constant: str) -> NoReturn:
        raise UserError(f"{path}: holds {constant}, which is not a JSON number")

    try:
        return json.loads(text, parse_constant=reject if strict else None, object_hook=object_hook)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file: {error}") from None


def finite_numbers(value: object, count: int) -> bool:
    """Tell whether ``value`` is a list of ``count`` finite numbers (bools are none)."""
    return isinstance(value, list) and len(value) == count and all(is_finite_number(item) for item in value)


def is_finite_number(value: object) -> bool:
    """Tell whether ``value`` is an int or a float that a double can hold; bools are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def as_integer(value: object) -> int | None:
    """Return an integer, or a float such as 42.0 (numpy exports write ids so), as int; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def check_writable(path: Path) -> None:
    """Make sure, before hours of work, that ``path`` can be written later.

    Raises:
        UserError: the path is a folder, or its folder does not exist or cannot be written to.
    """
    folder = path.parent
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file name to write to")
    if not folder.is_dir():
        raise UserError(f"{path}: cannot be written: the folder {folder} does not exist")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise UserError(f"{path}: cannot be written: no permission to write to {folder}")


def write_atomically(path: Path, chunks: Iterable[str]) -> None:
    """Write text so that the file is there as a whole or, after a crash, as it was before.

    Raises:
        UserError: the file cannot be written (full disk, no permission); names it.
    """
    if _is_special(path):  # a pipe or /dev/null: to replace it with a file would destroy it
        _write(path, path, chunks)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, path, chunks)
        try:
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: Path, name: Path, chunks: Iterable[str]) -> None:
    try:
        with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(chunks)
    except OSError as error:
        raise UserError(f"{name}: cannot be written: {error.strerror}") from None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
