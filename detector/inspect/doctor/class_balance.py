"""Classes with no boxes, or with far fewer than others."""

from typing import Final

import numpy as np

from detector.inspect.doctor.class_names import BACKGROUND_NAMES
from detector.inspect.doctor.finding import Example, Finding, listing, share
from detector.inspect.doctor.split import Split

MAX_RATIO: Final = 10.0
"""Boxes of the most frequent class for one of the rarest, from which on the classes are called out of balance."""


def find_classes_without_boxes(split: Split, *, is_parent_known: bool = False) -> list[Finding]:
    """Find classes that nothing can be learnt of.

    Args:
        split: the boxes.
        is_parent_known: whether the first class is a parent of the others, which is a finding of its own.
    """
    counts, names = split.boxes_per_class, split.content.categories.names
    named = list(zip(names, counts.tolist(), strict=True))[1 if is_parent_known else 0 :]
    empty = [name for name, count in named if not count and name.strip().casefold() not in BACKGROUND_NAMES]
    if not empty or not counts.any():
        return []
    return [
        Finding(
            "classes-without-boxes",
            "note",
            split.name,
            f"{share(len(empty), len(names), 'classes')} without boxes: {listing(empty)}",
            len(empty),
            "they cannot be learnt and are never predicted; data.classes leaves them out",
        )
    ]


def find_imbalance(split: Split) -> list[Finding]:
    """Find classes that others outnumber by far."""
    counts, names = split.boxes_per_class, split.content.categories.names
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return []
    order = present[np.argsort(-counts[present], kind="stable")]
    most, fewest = int(order[0]), int(order[-1])
    if counts[most] < MAX_RATIO * counts[fewest]:
        return []
    total, rare = int(counts.sum()), order[counts[order] * MAX_RATIO <= counts[most]]
    return [
        Finding(
            "class-imbalance",
            "note",
            split.name,
            f"{names[most]!r} dominates with {counts[most]:,} of {total:,} boxes ({counts[most] / total:.0%}); "
            f"{names[fewest]!r} has {counts[fewest]:,}",
            len(rare),
            "data.repeat_thresh shows images of rare classes more often (0.001 in LVIS; larger for few classes)",
            evidence=f"{share(len(rare), len(names), 'classes')} with at most a tenth of the most frequent one's boxes",
            examples=tuple(
                Example(f"{names[label]!r}: {counts[label]:,}") for label in rare[::-1][: split.num_examples].tolist()
            ),
        )
    ]
