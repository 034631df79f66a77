"""Images without boxes, of odd sizes or named twice, and ids of annotations; all from the annotations alone."""

from typing import Final

import numpy as np

from detector.inspect.doctor.finding import Finding, share
from detector.inspect.doctor.split import Split

MAX_EMPTY_SHARE: Final = 0.5
"""More images without boxes than this are seldom meant to be there."""

MAX_PIXELS: Final = 50_000_000
"""An image of this size takes 150 MB and a second to decode, for each loader process at a time."""

MAX_IMAGE_RATIO: Final = 5.0
"""A long side of more than this many short sides: the limit of the long side leaves little of the short one."""


def find_empty_images(split: Split) -> list[Finding]:
    """Find images without boxes."""
    flags = split.content.boxes_per_image() == 0
    count, total = int(flags.sum()), split.content.num_images
    if not count:
        return []
    is_much = count > MAX_EMPTY_SHARE * total
    return [
        Finding(
            "images-without-boxes",
            "warning" if is_much else "note",
            split.name,
            f"{share(count, total, 'images')} without boxes: everything in them is background",
            count,
            "make sure that they hold no objects; data.empty_images drops or limits them in training",
            examples=split.image_examples(flags),
        )
    ]


def find_odd_sizes(split: Split) -> list[Finding]:
    """Find images that are very large, or very long and narrow."""
    sizes = np.where(np.isfinite(split.sizes), split.sizes, 1.0)
    is_huge = sizes.prod(axis=1) > MAX_PIXELS
    is_long = sizes.max(axis=1) > MAX_IMAGE_RATIO * sizes.min(axis=1)

    def detail(row: int) -> str:
        height, width = sizes[row].tolist()
        return f"{width:.0f} x {height:.0f} (width x height)"

    total, findings = split.content.num_images, []
    if is_huge.any():
        findings.append(
            Finding(
                "huge-images",
                "note",
                split.name,
                f"{share(int(is_huge.sum()), total, 'images')} with more than {MAX_PIXELS / 1e6:.0f} million pixels",
                int(is_huge.sum()),
                "cut them into tiles or shrink them once; decoding them at every step is slow, and small objects "
                "vanish in the resize",
                examples=split.image_examples(is_huge, detail),
            )
        )
    if is_long.any():
        findings.append(
            Finding(
                "long-images",
                "note",
                split.name,
                f"{share(int(is_long.sum()), total, 'images')} more than {MAX_IMAGE_RATIO:g} times as long as "
                "wide; data.max_side leaves little of their short side",
                int(is_long.sum()),
                "cut them into pieces, or see whether the annotated size is a slip",
                examples=split.image_examples(is_long, detail),
            )
        )
    return findings


def find_files_named_twice(split: Split) -> list[Finding]:
    """Find image files that several entries name: the objects of one are background in the other."""
    names = split.content.file_names
    if len(set(names)) == len(names):
        return []
    first: dict[str, int] = {}
    is_repeat = np.array([first.setdefault(name, row) != row for row, name in enumerate(names)])
    return [
        Finding(
            "files-named-twice",
            "warning",
            split.name,
            f"{share(int(is_repeat.sum()), len(names), 'images')} of a file that an earlier image names already",
            int(is_repeat.sum()),
            "make one image of them: the objects of the one are background in the other",
            examples=split.image_examples(is_repeat),
        )
    ]


def find_bad_annotation_ids(split: Split) -> list[Finding]:
    """Find annotations that share an id, and the id 0, which pycocotools takes for 'no match'."""
    ids = split.content.annotation_ids
    rows = np.flatnonzero(ids >= 0)
    is_repeat = np.zeros(len(ids), dtype=np.bool_)
    is_repeat[rows] = True
    is_repeat[rows[np.unique(ids[rows], return_index=True)[1]]] = False
    is_zero = ids == 0
    findings = []
    if is_repeat.any():
        findings.append(
            Finding(
                "repeated-annotation-ids",
                "error" if split.is_scored else "warning",
                split.name,
                f"{share(int(is_repeat.sum()), len(ids), 'annotations')} with an id that an earlier one has already"
                + ("; scoring refuses them" if split.is_scored else ""),
                int(is_repeat.sum()),
                "give each annotation an id of its own; --fix does",
                examples=split.box_examples(is_repeat),
            )
        )
    if is_zero.any():
        findings.append(
            Finding(
                "annotation-id-0",
                "warning" if split.is_scored else "note",
                split.name,
                "an annotation has the id 0, which pycocotools takes for 'no match': a detection of it counts as wrong",
                int(is_zero.sum()),
                "number annotations from 1; --fix does",
                examples=split.box_examples(is_zero),
            )
        )
    return findings
