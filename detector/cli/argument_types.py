"""Numbers on the command line, checked as they are read; argparse prints what was expected."""

import argparse
import math
from collections.abc import Callable
from typing import Final

from detector.errors import UserError

MAX_EXAMPLES: Final = 10_000_000
"""They are made one by one: more would need gigabytes."""


def not_negative(text: str) -> float:
    """Read a number from 0 on."""
    return _number(text, lambda value: value >= 0, "a number from 0 on")


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    return _number(text, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def probability(text: str) -> float:
    """Read a number between 0 and 1."""
    return _number(text, lambda value: 0 < value < 1, "a number between 0 and 1")


def alpha(text: str) -> float | None:
    """Read a number from 0 to 1; ``none`` is None."""
    return None if text == "none" else _number(text, lambda value: 0 <= value <= 1, "none or a number from 0 to 1")


def count(text: str) -> int:
    """Read a number of examples."""
    return int(_number(text, lambda n: n == int(n) and 0 <= n <= MAX_EXAMPLES, f"0 to {MAX_EXAMPLES} examples"))


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    return int(_number(text, lambda n: n == int(n) and n >= 1, "a whole number from 1 on"))


def not_negative_integer(text: str) -> int:
    """Read a whole number from 0 on."""
    return int(_number(text, lambda n: n == int(n) and n >= 0, "a whole number from 0 on"))


def _number(text: str, is_fine: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and is_fine(value)):
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text}")
    return value


def split_overrides(option: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the ``key=value`` from a list of values that argparse let run on into them.

    Raises:
        UserError: if no value is left.
    """
    values = [word for word in words if "=" not in word]
    if not values:
        raise UserError(f"{option}: expected one value or more, found {' '.join(words)}")
    return values, [word for word in words if "=" in word]
