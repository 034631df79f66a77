"""The rule of which boxes are fit for training, and how the others are dropped or clipped.

Letter: B boxes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent

MIN_SIDE: Final = 0.01
"""Boxes with a side below this many pixels have nothing to learn from; it is also how far a box may leave its image
without being counted, as files are written with rounded decimals."""


@dataclass(frozen=True, slots=True)
class CleanedBoxes:
    """What the rule makes of boxes; each has at most one of the flaws.

    Attributes:
        corners: [B, 4] float64, xyxy, cut at the border of the image; of degenerate boxes anything.
        is_degenerate: [B] bool, a side is below MIN_SIDE (so also zero or negative), infinite or no number: dropped.
        is_outside: [B] bool, less than MIN_SIDE of a side lies inside the image: dropped.
        is_clipped: [B] bool, cut at the border of the image, which it left by more than MIN_SIDE.
    """

    corners: npt.NDArray[np.float64]
    is_degenerate: npt.NDArray[np.bool_]
    is_outside: npt.NDArray[np.bool_]
    is_clipped: npt.NDArray[np.bool_]

    @property
    def is_kept(self) -> npt.NDArray[np.bool_]:
        """[B] bool, fit for training, clipped or as it was."""
        return ~(self.is_degenerate | self.is_outside)


def clean_boxes(boxes: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64 | np.int64]) -> CleanedBoxes:
    """Apply the rule of cleaning.

    Args:
        boxes: [B, 4] (x, y, width, height) in pixels; any number, also NaN.
        sizes: [B, 2] (height, width) of the image of each box; infinite where it is not known.
    """
    x, y, width, height = boxes.T
    with np.errstate(over="ignore", invalid="ignore"):  # sums with huge numbers and NaN are what is looked for
        corners = np.stack([x, y, x + width, y + height], axis=1)
        is_degenerate = ~np.isfinite(corners).all(axis=1) | ~((width >= MIN_SIDE) & (height >= MIN_SIDE))
    limits = np.tile(sizes[:, ::-1], 2)  # [B, 4] as (width, height, width, height)
    clipped = np.clip(corners, 0, limits)
    is_outside = ~is_degenerate & ((clipped[:, 2:] - clipped[:, :2]) < MIN_SIDE).any(axis=1)
    with np.errstate(invalid="ignore"):  # infinity minus infinity, in boxes that are dropped
        is_clipped = ~is_degenerate & ~is_outside & (np.abs(corners - clipped) > MIN_SIDE).any(axis=1)
    return CleanedBoxes(clipped, is_degenerate, is_outside, is_clipped)


def clean_content(content: DatasetContent) -> CleanedBoxes:
    """Apply the rule to a dataset's boxes; images without a known size cut none."""
    sizes = np.where(content.sizes == UNKNOWN_SIZE, np.inf, content.sizes)
    return clean_boxes(content.boxes, sizes[content.image_index])
