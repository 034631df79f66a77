"""What the dataset doctor says: a finding with its examples and its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]
"""error: training would fail or learn the wrong thing; warning: worth mending; note: good to know."""

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""From bad to harmless."""


@dataclass(frozen=True, slots=True)
class Example:
    """One place where something was found.

    Attributes:
        text: names the file and the id, and says what is there.
        split: name of the split that ``image`` and ``boxes`` are rows of.
        image: row of the image; None where there is none to show.
        boxes: rows of the boxes that are meant.
    """

    text: str
    split: str = ""
    image: int | None = None
    boxes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a dataset that a person should know.

    Attributes:
        check: name of the check, such as ``degenerate-boxes``.
        severity: how bad it is.
        where: the split, or the splits, that it is about.
        text: one line that says what was found and how often.
        count: how often.
        remedy: what to do about it; empty where nothing needs to be done.
        evidence: why it is believed, where that is not plain.
        examples: the first places, as many as were asked for.
    """

    check: str
    severity: Severity
    where: str
    text: str
    count: int
    remedy: str = ""
    evidence: str = ""
    examples: tuple[Example, ...] = ()


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings from errors to notes, otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def share(count: int, total: int, things: str) -> str:
    """Return ``3 of 1,200 boxes``."""
    return f"{count:,} of {total:,} {things}"


def listing(names: Iterable[str], limit: int = 12) -> str:
    """Return names in quotes, the first of them where there are many."""
    quoted = [repr(name) for name in names]
    rest = len(quoted) - limit
    return ", ".join(quoted[:limit]) + (f" and {rest:,} more" if rest > 0 else "")
