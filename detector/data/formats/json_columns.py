"""Lists of JSON objects, read column by column with every value checked.

A column is checked by the set of its types, at C speed; only when that fails is it walked through to name the entry
that is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from detector.errors import UserError

_ABSENT: Final = object()
_INT64 = np.iinfo(np.int64)
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list", dict: "object"}


def describe(value: object) -> str:
    """Return a value of a JSON file and its type, shortened, for an error message."""
    if value is _ABSENT:
        return "missing"
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str | int | float) else f"{len(value)} entries"  # type: ignore[arg-type]
    if isinstance(value, bool):
        text = text.lower()
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({_JSON_TYPES[type(value)]})"


@dataclass(frozen=True, slots=True)
class Section:
    """One list of objects of a JSON file, such as ``images``.

    Attributes:
        path: the file, for messages.
        name: the list's key.
        entries: its objects.
    """

    path: Path
    name: str
    entries: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, path: Path, document: dict[str, Any], name: str) -> "Section":
        """Take the list ``name`` of a file's top level.

        Raises:
            UserError: it is missing, no list, or an entry is no object.
        """
        entries = document.get(name, _ABSENT)
        if not isinstance(entries, list):
            raise UserError(f"{path}: key '{name}' is {describe(entries)}, expected a list of objects")
        if not set(map(type, entries)) <= {dict}:
            index = next(i for i, entry in enumerate(entries) if not isinstance(entry, dict))
            raise UserError(f"{path}: {name}[{index}] is {describe(entries[index])}, expected an object")
        return cls(path, name, entries)

    def error(self, index: int, key: str, found: str, expected: str) -> UserError:
        """Return the error of one value, naming the file, the entry, its ids and the key."""
        entry = self.entries[index]
        ids = [f"{k} {entry[k]}" for k in ("id", "image_id") if k != key and isinstance(entry.get(k), int | str)]
        where = f"{self.name}[{index}]" + (f" ({', '.join(ids)})" if ids else "")
        return UserError(f"{self.path}: {where}: key '{key}' is {found}, expected {expected}")

    def integers(
        self, key: str, *, minimum: int = int(_INT64.min), absent: int | None = None, expected: str = "an integer"
    ) -> npt.NDArray[np.int64]:
        """Read a column of integers; numbers such as 640.0 count as integers, true and false do not.

        Args:
            key: name of the column.
            minimum: smallest allowed value.
            absent: stands for a missing or null value, and may be written out too; None forbids them.
            expected: what the message says a value should be.

        Returns:
            [entries] int64.

        Raises:
            UserError: a value is missing, no integer, too small or beyond 64 bits.
        """
        values = self._values(key, absent)

        def is_wrong(value: object) -> bool:
            is_integer = type(value) is int or (isinstance(value, float) and value.is_integer())
            return not is_integer or (not minimum <= value <= _INT64.max and value != absent)  # type: ignore[operator]

        if set(map(type, values)) <= {int}:
            try:
                column = np.array(values, dtype=np.int64)
            except OverflowError:
                pass  # the walk below names the value
            else:
                if not ((column < minimum) & (column != absent if absent is not None else True)).any():
                    return column
        self._fail_where(key, values, is_wrong, expected)
        return np.array([int(value) for value in values], dtype=np.int64)

    def strings(self, key: str) -> list[str]:
        """Read a column of strings that are not empty.

        Raises:
            UserError: a value is missing, no string or empty.
        """
        values = self._values(key, None)
        if not (set(map(type, values)) <= {str} and all(values)):
            self._fail_where(key, values, lambda value: not isinstance(value, str) or not value, "a string")
        return values

    def flags(self, key: str) -> npt.NDArray[np.bool_]:
        """Read a column of 0 and 1 or false and true; a missing or null value is 0.

        Returns:
            [entries] bool.

        Raises:
            UserError: a value is something else.
        """
        values = self._values(key, 0)
        if not (set(map(type, values)) <= {int, bool, float} and set(values) <= {0, 1}):
            self._fail_where(
                key, values, lambda value: type(value) in (str, list, dict) or value not in (0, 1), "0 or 1"
            )
        return np.array(values, dtype=np.bool_)

    def boxes(self, key: str) -> npt.NDArray[np.float64]:
        """Read a column of lists of four numbers, NaN and Infinity included.

        Returns:
            [entries, 4] float64.

        Raises:
            UserError: a value is missing, no list, or does not hold four numbers.
        """
        values = self._values(key, None)
        try:
            is_fine = set(map(len, values)) <= {4} and set(map(type, chain.from_iterable(values))) <= {int, float}
            if is_fine and set(map(type, values)) <= {list}:
                flat = np.fromiter(chain.from_iterable(values), np.float64, 4 * len(values))
                return flat.reshape(-1, 4)
        except (TypeError, OverflowError):
            pass  # something without a length, or an integer beyond float64: the walk below names it
        expected = "a list of four numbers [x, y, width, height]"
        for index, value in enumerate(values):
            if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
                found = f"{value!r:.100}" if isinstance(value, list) else describe(value)
                raise self.error(index, key, found, expected)
        raise AssertionError("the walk finds what the fast check found")

    def check_unique(self, key: str, values: npt.NDArray[np.int64] | list[str]) -> None:
        """Raise UserError for the first value of a column that stood there before."""
        if len(set(values if isinstance(values, list) else values.tolist())) == len(values):
            return
        first: dict[Any, int] = {}
        for index, value in enumerate(values):
            if value in first:
                found = f"{value!s}, which {self.name}[{first[value]}] has already"
                raise self.error(index, key, found, "a value of its own")
            first[value] = index

    def _values(self, key: str, absent: object) -> list[Any]:
        if absent is None:
            return [entry.get(key, _ABSENT) for entry in self.entries]
        return [absent if (value := entry.get(key)) is None else value for entry in self.entries]

    def _fail_where(self, key: str, values: list[Any], is_wrong: Callable[[Any], bool], expected: str) -> None:
        for index, value in enumerate(values):
            if is_wrong(value):
                raise self.error(index, key, describe(value), expected)


def _is_number(value: object) -> bool:
    """Whether it is a number, not true or false, that float64 can hold (NaN and infinity included)."""
    if type(value) is int:
        return abs(value) <= int(np.finfo(np.float64).max)
    return type(value) is float
