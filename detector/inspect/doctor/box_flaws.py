"""Boxes that training drops or clips."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from detector.inspect.doctor.finding import Finding, Severity, share
from detector.inspect.doctor.split import Split

ONE_PIXEL: Final = 1.0 + 1e-6
"""Boxes that leave their image by no more may have been rounded, or counted from 0 where the format counts from 1."""

_SMALL: Final[Mapping[str, str]] = {
    "coco": "{count:,} of them by at most 1 px, as rounding does",
    "voc": "{count:,} of them by at most 1 px, as where pixels were counted from 0; Pascal VOC counts from 1",
    "yolo": "{count:,} of them by at most 1 px, as rounding does",
    "csv": "{count:,} of them by at most 1 px, as rounding does",
}


def find_non_finite_boxes(split: Split) -> list[Finding]:
    """Find boxes with a number that is infinite or none; scoring refuses them."""
    content = split.content
    flags = np.logical_not(np.isfinite(content.boxes).all(axis=1))
    # YOLO files hold finite numbers only: boxes are lost with the size of an image, which is found as unreadable.
    if content.format == "yolo" or not flags.any():
        return []
    consequence = "scoring refuses them" if split.is_scored else "training drops them"
    return [
        Finding(
            "non-finite-boxes",
            "error" if split.is_scored else "warning",
            split.name,
            f"{share(int(flags.sum()), content.num_boxes, 'boxes')} with NaN or infinity; {consequence}",
            int(flags.sum()),
            "correct or remove them; --fix removes them",
            examples=split.box_examples(flags),
        )
    ]


def find_degenerate_boxes(split: Split) -> list[Finding]:
    """Find boxes without area: a side that is zero, negative, or below a hundredth of a pixel."""
    content = split.content
    flags = split.cleaned.is_degenerate & np.isfinite(content.boxes).all(axis=1)
    if not flags.any():
        return []
    is_all = bool(split.cleaned.is_degenerate.all())
    severity: Severity = "error" if is_all else "warning"
    consequence = "nothing is left to learn from" if is_all else "training drops them"
    return [
        Finding(
            "degenerate-boxes",
            severity,
            split.name,
            f"{share(int(flags.sum()), content.num_boxes, 'boxes')} without area; {consequence}",
            int(flags.sum()),
            "draw them anew or remove them; --fix removes them",
            examples=split.box_examples(flags),
        )
    ]


def find_outside_boxes(split: Split) -> list[Finding]:
    """Find boxes that lie outside of their image as a whole."""
    flags, total = split.cleaned.is_outside, split.content.num_boxes
    if not flags.any():
        return []
    is_all = not split.cleaned.is_kept.any()
    consequence = "nothing is left to learn from" if is_all else "training drops them"
    return [
        Finding(
            "outside-boxes",
            "error" if is_all else "warning",
            split.name,
            f"{share(int(flags.sum()), total, 'boxes')} outside of their image; {consequence}",
            int(flags.sum()),
            "see whether they belong to another image, or were drawn on one of another size; --fix removes them",
            examples=split.box_examples(flags, split.describe_image_of),
        )
    ]


def find_leaving_boxes(split: Split) -> list[Finding]:
    """Find boxes that leave their image in part; by up to one pixel it may be no more than another way of counting."""
    content, flags = split.content, split.cleaned.is_clipped
    if not flags.any():
        return []
    corners = np.concatenate([content.boxes[:, :2], content.boxes[:, :2] + content.boxes[:, 2:]], axis=1)[flags]
    by_pixels = np.abs(corners - split.cleaned.corners[flags]).max(axis=1)
    num_small = int((by_pixels <= ONE_PIXEL).sum())
    is_harmless = num_small == len(by_pixels)
    return [
        Finding(
            "leaving-boxes",
            "note" if is_harmless else "warning",
            split.name,
            f"{share(len(by_pixels), content.num_boxes, 'boxes')} that leave their image, by {by_pixels.max():.3g} px "
            "at most; training clips them",
            len(by_pixels),
            "" if is_harmless else "--fix clips them in the file too; scoring takes the file as it is",
            evidence=_SMALL[content.format].format(count=num_small) if num_small else "",
            examples=split.box_examples(
                np.flatnonzero(flags)[np.argsort(-by_pixels, kind="stable")], split.describe_image_of
            ),
        )
    ]
