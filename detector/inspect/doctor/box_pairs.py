"""Boxes that stand twice: the same object drawn again, or under two names.

Letters: B boxes, P pairs.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from detector.inspect.doctor.finding import Example, Finding, share
from detector.inspect.doctor.split import Flags, Rows, Split

NEAR_IOU: Final = 0.9
"""Two boxes of this overlap can hardly be two objects: that close even two drawings of one object seldom are."""


def find_coinciding_boxes(split: Split) -> list[Finding]:
    """Find boxes that stand in the file before, and boxes that all but coincide with another of their image.

    Of two classes these are a contradiction, of one class perhaps an object that was drawn twice.
    """
    repeats, originals = repeated_boxes(split, split.content.boxes)
    return [*_find_repeated(split, repeats, originals), *_find_near(split, *near_pairs(split, repeats))]


def _find_repeated(split: Split, repeats: Rows, originals: Rows) -> list[Finding]:
    if not len(repeats):
        return []
    return [
        Finding(
            "duplicate-boxes",
            "warning",
            split.name,
            f"{share(len(repeats), split.content.num_boxes, 'boxes')} in the file twice, with the same class",
            len(repeats),
            "--fix removes the repetitions; in scoring each one that is not detected twice counts as missed",
            examples=_pair_examples(split, repeats, originals, "the same as"),
        )
    ]


def _find_near(split: Split, first: Rows, second: Rows) -> list[Finding]:
    labels = split.content.labels
    is_same = labels[first] == labels[second]
    findings = []
    if not is_same.all():
        findings.append(
            Finding(
                "contradicting-boxes",
                "warning",
                split.name,
                f"boxes of two classes with an IoU of {NEAR_IOU:g} or more: {_pairs(~is_same)}",
                int((~is_same).sum()),
                "where the two are one object, keep one of them: each teaches that the other's class is wrong",
                examples=_pair_examples(split, second[~is_same], first[~is_same], "almost the same place as"),
            )
        )
    if is_same.any():
        findings.append(
            Finding(
                "near-duplicate-boxes",
                "warning",
                split.name,
                f"boxes of one class with an IoU of {NEAR_IOU:g} or more: {_pairs(is_same)}",
                int(is_same.sum()),
                "where the two are one object that was drawn twice, remove one: of the two at most one can be found",
                examples=_pair_examples(split, second[is_same], first[is_same], "almost the same place as"),
            )
        )
    return findings


def repeated_boxes(split: Split, boxes: npt.NDArray[np.float64]) -> tuple[Rows, Rows]:
    """Find boxes that stand in the file before; those that training drops are left out.

    Args:
        split: the boxes' images, classes and flags.
        boxes: [B, 4] the boxes, perhaps clipped.

    Returns:
        [P] rows of the repetitions, rising, and [P] rows of the first box that each repeats.
    """
    content = split.content
    rows = np.flatnonzero(split.cleaned.is_kept)
    columns = [content.image_index[rows], content.labels[rows], content.is_ignored[rows].astype(np.int64)]
    columns += [(column + 0.0).view(np.int64) for column in boxes[rows].T]  # + 0.0: minus zero becomes zero
    # One sort of hashes in place of one by seven columns; neighbours are compared for real below.
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column in columns:
        keys = (keys ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    is_repeat = np.zeros(len(rows), dtype=np.bool_)
    is_repeat[1:] = np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in columns])
    # Runs of equal boxes: each begins where a box is no repetition, and a stable sort keeps the file's order in it.
    start_of = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(len(rows))))
    repeats, originals = rows[order[is_repeat]], rows[order[start_of[is_repeat]]]
    by_row = np.argsort(repeats)
    return repeats[by_row], originals[by_row]


def near_pairs(split: Split, repeats: Rows) -> tuple[Rows, Rows]:
    """Find pairs of boxes of an image with an IoU of NEAR_IOU or more, ignore regions left out.

    Args:
        split: the boxes.
        repeats: rows of exact repetitions, to be left out too.

    Returns:
        [P] and [P] rows of the boxes, the earlier of each pair first.
    """
    content = split.content
    is_wanted = split.cleaned.is_kept & ~content.is_ignored
    is_wanted[repeats] = False
    rows = np.flatnonzero(is_wanted)
    rows = rows[np.lexsort((split.cleaned.corners[rows, 0], content.image_index[rows]))]
    corners, images = split.cleaned.corners[rows], content.image_index[rows]
    left, reach = corners[:, 0], (1 - NEAR_IOU) * (corners[:, 2] - corners[:, 0])
    found: list[Rows] = []
    # Sorted by the left edge within each image: a box that starts further right than a tenth of the width cannot
    # reach the overlap, nor can those behind it. So each box is compared with its first, second, ... follower only
    # as long as one is near enough.
    active, step = np.arange(len(rows)), 1
    while len(active):
        active = active[active + step < len(rows)]
        other = active + step
        is_near = (images[active] == images[other]) & (left[other] - left[active] <= reach[active])
        active, other = active[is_near], other[is_near]
        matching = _iou(corners[active], corners[other]) >= NEAR_IOU
        found.append(np.stack([rows[active[matching]], rows[other[matching]]], axis=1))
        step += 1
    pairs = np.sort(np.concatenate([np.empty((0, 2), dtype=np.int64), *found]), axis=1)
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    return pairs[:, 0], pairs[:, 1]


def _iou(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the IoU of each box with its partner; boxes are xyxy and have area."""
    overlap = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = overlap.clip(min=0).prod(axis=1)
    areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (first, second)]
    return np.asarray(shared / (areas[0] + areas[1] - shared))


def _pair_examples(split: Split, rows: Rows, partners: Rows, relation: str) -> tuple[Example, ...]:
    pairs = list(zip(rows.tolist(), partners.tolist(), strict=True))[: split.num_examples]
    return tuple(
        split.box_example(row, f"{relation} {split.describe_box(partner)}", (partner,)) for row, partner in pairs
    )


def _pairs(flags: Flags) -> str:
    return "1 pair" if flags.sum() == 1 else f"{int(flags.sum()):,} pairs"
