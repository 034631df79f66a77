"""The doctor's quick form for the start of a run: annotations alone, in a second, and only what matters."""

from collections.abc import Sequence
from typing import Final

from detector.data.formats.content import DatasetContent
from detector.inspect.doctor.checking import check_splits
from detector.inspect.doctor.finding import Finding
from detector.inspect.doctor.split import Split

MAX_LINES: Final = 5


def start_up_findings(
    train: DatasetContent, val: DatasetContent, *, short_side: int, max_side: int
) -> tuple[Finding, ...]:
    """Check the annotations of a run, without reading any image.

    Args:
        train: what is learnt from.
        val: what is scored on.
        short_side: the largest short side that training resizes images to, in pixels.
        max_side: limit of their longer side in pixels.

    Returns:
        What was found, errors first.
    """
    splits = [Split("train", train, num_examples=1), Split("val", val, is_scored=True, num_examples=1)]
    return check_splits(splits, short_side=short_side, max_side=max_side)


def format_start_up(findings: Sequence[Finding]) -> list[str]:
    """Return errors and warnings as a few lines, each with its first example; notes are for the full report."""
    serious = [finding for finding in findings if finding.severity != "note"]
    lines = [_line(finding) for finding in serious[:MAX_LINES]]
    rest = len(serious) - len(lines)
    if rest:
        lines.append(f"and {rest} more findings")
    return [*lines, "`detector check-dataset` with the same arguments shows all of them"] if lines else []


def _line(finding: Finding) -> str:
    example = f", such as {finding.examples[0].text}" if finding.examples else ""
    return f"{finding.where}: {finding.text}{example}"
