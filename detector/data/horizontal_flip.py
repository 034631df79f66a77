"""The one augmentation of most recipes, a horizontal flip, without the 0.9 ms that albumentations takes around it.

Letters: M ground truths of one image.
"""

import random
from dataclasses import replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from detector.structures import Sample

Boxes = npt.NDArray[np.float32] | npt.NDArray[np.float64]
"""[M, 4] relative to the image; albumentations begins in single precision and goes on in double."""

_MIN_AREA: Final = 1e-7  # pixels; albumentations drops boxes below it


class HorizontalFlip:
    """Does what albumentations 2.0.8 does with ``Compose([HorizontalFlip(p)])``, to the last bit.

    Its draws, its pixels and its rounding of boxes, which it makes relative to the image and back also where nothing is
    flipped, are the same (``tests/data/test_horizontal_flip.py`` compares them): only its checks and conversions of
    everything that a pipeline may hold are left out.

    Args:
        p: probability of a flip.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, sample: Sample, draws: random.Random) -> tuple[Sample, npt.NDArray[np.int64]]:
        """Flip a sample, or not.

        Args:
            sample: image and ground truth; every box has a positive width and height.
            draws: what decides.

        Returns:
            The sample with the boxes that are left, [M, 4], and their numbers, [M]; labels and ignore flags as before.
        """
        draws.random()  # whether the pipeline is applied at all, which it always is
        is_flipped = self.p > 0 and (self.p >= 1 or draws.random() < self.p)
        image = np.asarray(cv2.flip(sample.image, 1), dtype=np.uint8) if is_flipped else sample.image
        height, width = image.shape[:2]
        boxes, numbers = _move(sample.boxes, height, width, is_flipped=is_flipped)
        return replace(sample, image=image, boxes=boxes), numbers


def find_horizontal_flip(pipeline: Any) -> HorizontalFlip | None:
    """Return the short way of a pipeline from :func:`~detector.data.transform_building.build_pipeline`, if it has one.

    It has if it holds one transform, and that is ``HorizontalFlip``.
    """
    transforms: Any = getattr(pipeline, "transforms", ())
    if len(transforms) != 1 or type(transforms[0]).__name__ != "HorizontalFlip":
        return None
    return HorizontalFlip(float(transforms[0].p))


def has_area(boxes: npt.NDArray[np.float32]) -> bool:
    """Return whether every box [M, 4] has a positive width and height; others are left to albumentations."""
    return bool((boxes[:, 2:] > boxes[:, :2]).all())


def _move(
    boxes: npt.NDArray[np.float32], height: int, width: int, *, is_flipped: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return boxes [M, 4] as albumentations leaves them, and which of them these are."""
    numbers = np.arange(len(boxes))
    if not len(boxes):
        return boxes, numbers
    scale = np.array([width, height, width, height], dtype=np.float64)
    relative: Boxes = np.minimum(np.maximum((boxes / scale).astype(np.float32), 0), 1)
    relative, numbers = _settle(relative, numbers, scale)  # when the pipeline begins
    if is_flipped:
        relative[:, [0, 2]] = 1 - relative[:, [2, 0]]
    for _ in range(2):  # after the transform, and when the pipeline ends
        relative, numbers = _settle(relative, numbers, scale)
    return (relative * scale).astype(np.float32), numbers


def _settle(
    relative: Boxes, numbers: npt.NDArray[np.int64], scale: npt.NDArray[np.float64]
) -> tuple[Boxes, npt.NDArray[np.int64]]:
    """Drop boxes without area and clip the others to the image, in pixels."""
    sides = (relative[:, 2:] - relative[:, :2]) * scale[:2].astype(relative.dtype)
    kept = sides[:, 0] * sides[:, 1] >= _MIN_AREA
    settled = np.minimum(np.maximum(relative * scale, 0), scale) / scale
    return settled[kept], numbers[kept]
