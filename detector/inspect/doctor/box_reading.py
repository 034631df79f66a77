"""Boxes whose four numbers mean something else than their format says, seen by statistics.

A box read in the wrong way often has no area or leaves its image by far. Where that befalls many boxes, and another
way of reading the same numbers suits practically all of them, the file was written in that other way.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from detector.inspect.doctor.finding import Example, Finding
from detector.inspect.doctor.split import Flags, Split

Numbers = npt.NDArray[np.float64]

XYWH: Final = "x, y, width, height"
XYXY: Final = "x1, y1, x2, y2"
CENTRE: Final = "centre x, centre y, width, height"

DECLARED: Final = {"coco": XYWH, "voc": XYXY, "csv": XYXY, "yolo": CENTRE}
"""What each format says its four numbers are."""

MIN_MISFITS: Final = 5
MIN_MISFIT_SHARE: Final = 0.10
MAX_OTHER_SHARE: Final = 0.005
"""The declared reading misfits at least so many boxes and this part of them, the other one hardly any."""

FAR: Final = 0.05
"""Part of the image's side by which a box must leave it to count against the declared reading: careless drawing gives
less, and of a set with one large object in each image nearly any reading of the numbers stays inside."""

NEAR: Final = 0.01
"""The same for the other reading, which has to fit."""


def find_other_reading(split: Split) -> list[Finding]:
    """Find a file whose boxes are given in another way than its format says, or as parts of the image's sides."""
    sizes = split.sizes[split.content.image_index]
    usable = np.isfinite(np.concatenate([split.content.boxes, sizes], axis=1)).all(axis=1)
    if not usable.any():
        return []
    numbers = _numbers_as_written(split)
    return _find_parts_of_sides(split, numbers, usable) or _find_other_meaning(split, numbers, sizes, usable)


def _find_parts_of_sides(split: Split, numbers: Numbers, usable: Flags) -> list[Finding]:
    if split.content.format == "yolo":
        return []
    within = ((numbers[usable] >= 0) & (numbers[usable] <= 1)).all(axis=1)
    has_area = (split.content.boxes[usable, 2:] > 0).all(axis=1)
    if within.mean() < 0.99 or not (within & has_area).any():
        return []
    return [
        Finding(
            "normalised-boxes",
            "error",
            split.name,
            f"{int(within.sum()):,} of {int(usable.sum()):,} boxes have four numbers between 0 and 1, expected pixels",
            int(within.sum()),
            "multiply x and width by the image's width, y and height by its height",
            evidence=f"the largest number of all is {numbers[usable].max():.4g}",
            examples=_examples(split, np.flatnonzero(usable), numbers),
        )
    ]


def _find_other_meaning(split: Split, numbers: Numbers, sizes: Numbers, usable: Flags) -> list[Finding]:
    declared = DECLARED[split.content.format]
    misfits = _misfits(split.content.boxes, sizes, FAR) & usable
    count, total = int(misfits.sum()), int(usable.sum())
    if count < MIN_MISFITS or count < MIN_MISFIT_SHARE * total:
        return []
    for other in (XYXY, XYWH, CENTRE):
        num_other = int((_misfits(_as_boxes(numbers, other), sizes, NEAR) & usable).sum())
        if other == declared or num_other > MAX_OTHER_SHARE * total:
            continue
        return [
            Finding(
                "mixed-up-boxes",
                "error",
                split.name,
                f"the boxes look like ({other}), where {split.content.format.upper()} has ({declared})",
                count,
                f"convert the boxes to ({declared}); --fix does not guess",
                evidence=f"read as ({declared}), {count / total:.0%} of {total:,} boxes have no area or leave their "
                f"image by more than {FAR:.0%} of its side; read as ({other}), {num_other / total:.1%} "
                f"do by {NEAR:.0%}",
                examples=_examples(split, np.flatnonzero(misfits), numbers),
            )
        ]
    return []


def _numbers_as_written(split: Split) -> Numbers:
    """Return [B, 4] the numbers of the file: readers have made (x, y, width, height) of them."""
    x, y, width, height = split.content.boxes.T
    with np.errstate(over="ignore", invalid="ignore"):
        match split.content.format:
            case "coco":
                columns = (x, y, width, height)
            case "csv":
                columns = (x, y, x + width, y + height)
            case "voc":  # from the first to the last column of pixels, counted from 1; differences where degenerate
                columns = (x + 1, y + 1, x + width + (width <= 0), y + height + (height <= 0))
            case "yolo":
                columns = (x + width / 2, y + height / 2, width, height)
    return np.stack(columns, axis=1)


def _as_boxes(numbers: Numbers, reading: str) -> Numbers:
    """Return numbers as (x, y, width, height)."""
    first, second = numbers[:, :2], numbers[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        if reading == XYXY:
            return np.concatenate([first, second - first], axis=1)
        return np.concatenate([first - second / 2, second], axis=1) if reading == CENTRE else numbers


def _misfits(boxes: Numbers, sizes: Numbers, tolerance: float) -> Flags:
    """Return [B] bool, True for boxes without area and those that leave their image by a part of its side."""
    sides = sizes[:, ::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        ends = boxes[:, :2] + boxes[:, 2:]
        is_empty = ~(boxes[:, 2:] > 0).all(axis=1)
        leaves = ((boxes[:, :2] < -tolerance * sides) | (ends > (1 + tolerance) * sides)).any(axis=1)
    return np.asarray(is_empty | leaves, dtype=np.bool_)


def _examples(split: Split, rows: npt.NDArray[np.int64], numbers: Numbers) -> tuple[Example, ...]:
    def detail(row: int) -> str:
        written = ", ".join(f"{number:.6g}" for number in numbers[row].tolist())
        return f"written as ({written}), {split.describe_image_of(row)}"

    return split.box_examples(rows, detail)
