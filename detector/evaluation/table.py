"""The COCO numbers as plain text, for a terminal and for log files."""

from collections.abc import Sequence

from rich.cells import cell_len

from detector.evaluation.coco import MAX_DETECTIONS, METRICS, CocoScores


def format_scores(scores: CocoScores) -> str:
    """Lay out the twelve numbers and the per-class table; several lines without a newline at the end.

    Args:
        scores: from :func:`detector.evaluation.coco.score`. -1, "no ground truth of that kind", is shown as -1.
    """
    lines = []
    for names in (METRICS[:6], METRICS[6:]):
        lines += align_columns([list(names), [_number(scores.metrics[name]) for name in names]], left_columns=0)
    rows = [["class", "AP", "AP50", "objects"]]
    rows += [
        [printable_name(row.name), _number(row.AP), _number(row.AP50), str(row.num_gt)] for row in scores.per_class
    ]
    lines += ["", *align_columns(rows, left_columns=1), ""]
    lines.append(
        f"COCO: IoU .50:.95, at most {MAX_DETECTIONS} detections per image and class; "
        "s, m, l: area below 32^2, up to 96^2, above; -1: no such ground truth"
    )
    lines += [f"note: {note}" for note in scores.notes]
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-1" if value == -1 else f"{value:.4f}"


def align_columns(rows: Sequence[Sequence[str]], left_columns: int) -> list[str]:
    """Lay out a table, one line a row: the first columns flush left, the others flush right."""
    # Terminal cells, not characters: CJK class names are two cells a character.
    widths = [max(6, *(cell_len(cell) for cell in column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - cell_len(cell))
            cells.append(cell + padding if column < left_columns else padding + cell)
        lines.append("  ".join(cells).rstrip())
    return lines


def printable_name(name: str) -> str:
    """Return a class name that keeps to its line and moves no cursor."""
    return "".join(character if character.isprintable() else "?" for character in name)
