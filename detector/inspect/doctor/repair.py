"""What ``--fix`` changes in a dataset: only what needs no decision, each change with a line that says so.

Letters: I images, B boxes.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.errors import UserError
from detector.inspect.doctor.box_pairs import repeated_boxes
from detector.inspect.doctor.box_reading import find_other_reading
from detector.inspect.doctor.file_checks import is_unusable, keeps_size_when_turned, unusable_images
from detector.inspect.doctor.split import Flags, Rows, Split, describe_numbers

_DECIMALS: Final = 6  # of a pixel: the differences of decimal numbers end in noise


@dataclass(frozen=True, slots=True)
class Repair:
    """A dataset as it is to be written.

    Attributes:
        content: all images and boxes of the dataset, with mended sizes, boxes and annotation ids.
        keeps_image: [I] bool, the images that stay.
        keeps_box: [B] bool, the boxes that stay; none of an image that goes.
        is_clipped: [B] bool, boxes whose numbers changed.
        log: one line a change: where, what it was, what it became.
    """

    content: DatasetContent
    keeps_image: Flags
    keeps_box: Flags
    is_clipped: Flags
    log: tuple[str, ...]


def plan_repair(split: Split) -> Repair:
    """Decide what to change in a dataset.

    Images that training cannot use go, with their boxes; sizes that are not annotated are filled in, but of images
    whose EXIF orientation would not be applied any more once the size is annotated; boxes without
    area or outside of their image go; boxes that leave their image are clipped; repetitions of a box go; annotation
    ids that are 0 or taken become free ones.

    Args:
        split: a whole dataset with the facts of its image files.

    Raises:
        UserError: no image would be left, or the numbers of the boxes are mixed up, which is for a person to mend.
    """
    for finding in find_other_reading(split):
        raise UserError(
            f"{split.content.path}: {finding.text}; clipping would destroy them. Convert them first, then use --fix"
        )
    log: list[str] = []
    keeps_image = ~is_unusable(split)
    if not keeps_image.any():
        raise UserError(
            f"{split.content.path}: no image of it can be used, so there is nothing to write; see the report"
        )
    _log_images(split, keeps_image, log)
    sizes = _mend_sizes(split, keeps_image, log)
    keeps_box = keeps_image[split.content.image_index]
    boxes, is_clipped = _mend_boxes(split, keeps_box, log)
    ids = _mend_ids(split, keeps_box, log)
    content = replace(split.content, sizes=sizes, boxes=boxes, annotation_ids=ids)
    file = f"{split.content.path.name}: " if split.content.format == "coco" else ""  # others name it themselves
    lines = tuple(file + line for line in log)
    return Repair(content, keeps_image, keeps_box, is_clipped & keeps_box, lines)


def _log_images(split: Split, keeps_image: Flags, log: list[str]) -> None:
    counts = split.content.boxes_per_image()
    rows = np.flatnonzero(~keeps_image).tolist()
    for row, (_, reason) in zip(rows, unusable_images(split), strict=True):
        log.append(f"image {split.content.describe_image(row)}: left out with its {counts[row]} boxes: {reason}")


def _mend_sizes(split: Split, keeps_image: Flags, log: list[str]) -> Rows:
    """Return [I, 2] sizes: most were filled in when the files were looked at, some have to stay open.

    An annotated size says whether an image is turned by its EXIF orientation. One that turning leaves as it is would
    say that the image is not, while its boxes are where viewers show them.
    """
    sizes = split.content.sizes.copy()
    stays_open = split.content.is_measured & keeps_size_when_turned(split)
    sizes[stays_open] = UNKNOWN_SIZE
    for row in filter(keeps_image.__getitem__, split.filled):
        height, width = split.content.sizes[row].tolist()
        if not stays_open[row]:
            log.append(f"image {split.content.describe_image(row)}: size: not annotated -> {width} x {height}")
    return sizes


def _mend_boxes(split: Split, keeps_box: Flags, log: list[str]) -> tuple[npt.NDArray[np.float64], Flags]:
    """Return [B, 4] mended boxes and which were clipped; take those that go out of ``keeps_box``."""
    content, cleaned = split.content, split.cleaned
    corners = cleaned.corners
    boxes = content.boxes.copy()
    flags = cleaned.is_clipped
    clipped = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    boxes[flags] = clipped[flags].round(_DECIMALS)
    repeats, originals = repeated_boxes(split, boxes)
    original_of = dict(zip(repeats.tolist(), originals.tolist(), strict=True))
    changed = cleaned.is_degenerate | cleaned.is_outside | flags
    changed[repeats] = True
    for row in np.flatnonzero(changed & keeps_box).tolist():
        where = split.describe_box(row)
        if cleaned.is_degenerate[row]:
            log.append(f"{where}: removed: no area")
        elif cleaned.is_outside[row]:
            log.append(f"{where}: removed: outside of its image; {split.describe_image_of(row)}")
        elif row in original_of:
            log.append(f"{where}: removed: repeats {split.describe_box(original_of[row])}")
        else:
            log.append(f"{where}: clipped -> {describe_numbers(boxes[row])}")
    keeps_box &= cleaned.is_kept
    keeps_box[repeats] = False
    return boxes, flags


def _mend_ids(split: Split, keeps_box: Flags, log: list[str]) -> Rows:
    """Return [B] annotation ids, all different and above 0 where there are any."""
    ids = split.content.annotation_ids.copy()
    rows = np.flatnonzero(keeps_box & (ids >= 0))
    is_taken = np.ones(len(rows), dtype=np.bool_)
    is_taken[np.unique(ids[rows], return_index=True)[1]] = False
    wrong = rows[is_taken | (ids[rows] == 0)]
    free = int(ids.max(initial=0)) + 1
    for number, row in enumerate(wrong.tolist()):
        log.append(f"{split.describe_box(row)}: id {ids[row]} -> {free + number}")
        ids[row] = free + number
    return ids
