"""Boxes that are very small, very large or very thin at the size that training sees them in, and ignore regions.

Letters: I images, B boxes.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from detector.inspect.doctor.finding import Finding, share
from detector.inspect.doctor.split import Split

MIN_PIXELS: Final = 1.0
"""A side below this at training's scale is averaged away with its surroundings by the resize."""

FINEST_STRIDE: Final = 8.0
"""Pixels between anchors of the finest pyramid level, P3."""

WHOLE: Final = 0.99
"""Part of both sides of the image from which on a box counts as the whole image."""

MAX_RATIO: Final = 20.0
"""Boxes that are longer than this many times their width: no anchor comes near them."""


def training_scales(split: Split, short_side: int, max_side: int) -> npt.NDArray[np.float64]:
    """Return [I] the factor that training resizes each image by; NaN where its size is not known.

    It is that of :func:`detector.data.resize.resized_size` before rounding to whole pixels.
    """
    with np.errstate(invalid="ignore"):
        factors = np.minimum(short_side / split.sizes.min(axis=1), max_side / split.sizes.max(axis=1))
    return np.where(np.isfinite(split.sizes).all(axis=1), factors, np.nan)


def find_small_boxes(split: Split, short_side: int, max_side: int) -> list[Finding]:
    """Find boxes that vanish in the resize, and those that are smaller than the finest stride.

    Args:
        split: the boxes.
        short_side: the largest short side of training in pixels.
        max_side: limit of the longer side in pixels.
    """
    content = split.content
    scales = training_scales(split, short_side, max_side)[content.image_index]
    extents = (split.cleaned.corners[:, 2:] - split.cleaned.corners[:, :2]) * scales[:, None]
    is_object = split.cleaned.is_kept & ~content.is_ignored
    vanishing = is_object & (extents.min(axis=1) < MIN_PIXELS)
    small = is_object & ~vanishing & (extents.max(axis=1) < FINEST_STRIDE)
    at_scale = f"at a short side of {short_side} and a long side of at most {max_side}"

    def detail(row: int) -> str:
        return f"{extents[row, 0]:.3g} x {extents[row, 1]:.3g} px in training"

    findings = []
    if vanishing.any():
        findings.append(
            Finding(
                "vanishing-boxes",
                "warning",
                split.name,
                f"{share(int(vanishing.sum()), content.num_boxes, 'boxes')} with a side below {MIN_PIXELS:g} px "
                f"{at_scale}: there is nothing left to see",
                int(vanishing.sum()),
                "train at a larger data.short_side, cut the images into tiles, or remove the boxes",
                examples=split.box_examples(vanishing, detail),
            )
        )
    if small.any():
        findings.append(
            Finding(
                "small-boxes",
                "note",
                split.name,
                f"{share(int(small.sum()), content.num_boxes, 'boxes')} smaller than {FINEST_STRIDE:g} px, the "
                f"finest stride, {at_scale}",
                int(small.sum()),
                "a larger data.short_side or smaller model.anchors.sizes may find them",
                examples=split.box_examples(small, detail),
            )
        )
    return findings


def find_whole_image_boxes(split: Split) -> list[Finding]:
    """Find boxes as large as their image, such as labels that were meant for the image."""
    content = split.content
    sides = split.sizes[content.image_index][:, ::-1]
    extents = split.cleaned.corners[:, 2:] - split.cleaned.corners[:, :2]
    flags = split.cleaned.is_kept & ~content.is_ignored & (extents >= WHOLE * sides).all(axis=1)
    if not flags.any():
        return []
    return [
        Finding(
            "whole-image-boxes",
            "note",
            split.name,
            f"{share(int(flags.sum()), content.num_boxes, 'boxes')} as large as their image",
            int(flags.sum()),
            "see whether they are labels of the image in place of objects",
            examples=split.box_examples(flags),
        )
    ]


def find_thin_boxes(split: Split) -> list[Finding]:
    """Find boxes with an absurd aspect ratio."""
    content = split.content
    extents = np.where(split.cleaned.is_kept[:, None], split.cleaned.corners[:, 2:] - split.cleaned.corners[:, :2], 1.0)
    flags = ~content.is_ignored & (extents.max(axis=1) > MAX_RATIO * extents.min(axis=1))
    if not flags.any():
        return []
    return [
        Finding(
            "thin-boxes",
            "note",
            split.name,
            f"{share(int(flags.sum()), content.num_boxes, 'boxes')} more than {MAX_RATIO:g} times as long as wide",
            int(flags.sum()),
            "see whether they are slips; model.anchors.aspect_ratios decides how well anchors can match them",
            examples=split.box_examples(flags),
        )
    ]


def find_ignore_regions(split: Split) -> list[Finding]:
    """Count crowd regions and objects marked as difficult."""
    content = split.content
    flags = content.is_ignored
    if not flags.any():
        return []
    meaning = "objects marked as difficult" if content.format == "voc" else "crowd regions"
    return [
        Finding(
            "ignore-regions",
            "note",
            split.name,
            f"{share(int(flags.sum()), content.num_boxes, 'boxes')} for {meaning}: neither object nor background",
            int(flags.sum()),
            examples=split.box_examples(flags),
        )
    ]
