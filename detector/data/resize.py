"""The one resize: short side to a target, long side at most a limit, never warped."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from detector.structures import Sample, Size


def resized_size(size: Size, short_side: int, max_side: int) -> Size:
    """Return the size of an image after the resize.

    The scale is ``min(short_side / min(size), max_side / max(size))`` (Lin et al. 2017 and the COCO recipes of
    detectron2: 800 and 1333); each side is rounded half up and is at least 1 pixel. Computed in integers, so the
    result has no rounding error of floats in it.

    Args:
        size: (height, width) in pixels, each at least 1.
        short_side: target length of the shorter side in pixels.
        max_side: the longer side never exceeds this many pixels.

    Returns:
        (height, width) in pixels.
    """
    shorter, longer = min(size), max(size)
    if short_side * longer <= max_side * shorter:
        numerator, denominator = short_side, shorter
    else:
        numerator, denominator = max_side, longer
    # floor(side * n / d + 1 / 2) = floor((2 * side * n + d) / (2 * d))
    height, width = (max(1, (2 * side * numerator + denominator) // (2 * denominator)) for side in size)
    return height, width


def resize_sample(sample: Sample, size: Size) -> Sample:
    """Resize the image to ``size`` and scale the boxes by the exact ratio of each axis.

    Area averaging when the image shrinks (no aliasing), bilinear interpolation when it grows; a sample of that size is
    returned as it is. ``original_size`` is kept. A sample without boxes is fine.

    Args:
        sample: image and ground truth.
        size: (height, width) in pixels to resize to.

    Returns:
        The resized sample; boxes are in pixels of the new image.
    """
    if size == sample.image.shape[:2]:
        return sample
    return resize_into(sample, np.empty((*size, 3), dtype=np.uint8))


def resize_into(sample: Sample, pixels: npt.NDArray[np.uint8]) -> Sample:
    """Resize as :func:`resize_sample` does, into memory that is there already.

    Args:
        sample: image and ground truth.
        pixels: [h, w, 3], to be filled; its rows may lie apart.

    Returns:
        The resized sample; its image is ``pixels``.
    """
    old_height, old_width = sample.image.shape[:2]
    height, width = pixels.shape[:2]
    if (height, width) == (old_height, old_width):
        pixels[:] = sample.image
        return replace(sample, image=pixels)
    interpolation = cv2.INTER_AREA if height * width < old_height * old_width else cv2.INTER_LINEAR
    cv2.resize(sample.image, (width, height), dst=pixels, interpolation=interpolation)
    ratio_y, ratio_x = height / old_height, width / old_width
    boxes = sample.boxes.astype(np.float64) * (ratio_x, ratio_y, ratio_x, ratio_y)
    return replace(sample, image=pixels, boxes=boxes.astype(np.float32))
