"""Values as strict JSON can hold them: it has no word for NaN and the infinities."""

import math
from typing import Any, TypeAlias

import numpy as np

JsonValue: TypeAlias = "str | int | float | list[JsonValue] | dict[str, JsonValue] | None"
JsonRow = dict[str, JsonValue]
"""One line of ``metrics.jsonl``: plain numbers and lists of them, None for what is not finite."""


def finite_or_none(value: float) -> int | float | None:
    """Return ``value`` as a Python int or float, None if it is NaN or infinite."""
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if math.isfinite(value) else None


def json_value(value: Any) -> JsonValue:
    """Return text, a number, or lists and dicts of them at any depth; None for every number that is not finite."""
    match value:
        case None | str():
            return value
        case dict():
            return {str(name): json_value(part) for name, part in value.items()}
        case tuple() | list():
            return [json_value(part) for part in value]
        case _:
            return finite_or_none(value)
