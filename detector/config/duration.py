"""Durations as people write them."""

import re

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> int:
    """Return a duration such as ``11h30m``, ``2d`` or ``90s`` in seconds.

    Raises:
        ValueError: it is none, or no time at all.
    """
    match = _DURATION.fullmatch(text.replace(" ", ""))
    if match is None or not any(match.groups(default="")):
        raise ValueError(f"expected seconds, or days, hours, minutes and seconds such as 11h30m, found {text!r}")
    days, hours, minutes, seconds = (int(part) for part in match.groups(default="0"))
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise ValueError(f"expected a time above 0, found {text!r}")
    return total
