"""Numbers as text."""


def shortest(value: float) -> str:
    """Return the shortest text that reads back as a finite ``value``; whole numbers without ".0"."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
