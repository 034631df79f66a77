"""Images of a training batch: boxes with their anchors, ignore regions and padding.

Letters: M ground truths of the image.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from detector.drawing.boxes import Picture, draw_labelled_boxes, font_size, line_width
from detector.drawing.colors import Color, class_color
from detector.drawing.text import readable_name
from detector.structures import Size

Floats = npt.NDArray[np.floating[Any]]

ANCHOR_COLOR: Final[Color] = (70, 220, 90)
UNMATCHED_COLOR: Final[Color] = (255, 70, 50)

_FEW_BOXES: Final = 12
"""With more boxes than this their tags become smaller, ..."""

_LEAST_TAG: Final = 12
"""... but no smaller than this font size in pixels."""

_STRIPES: Final = (np.array((150, 150, 150)), np.array((60, 60, 60)))


def draw_training_image(
    image: Picture,
    size: Size,
    boxes: Floats,
    labels: npt.NDArray[np.int64],
    ignore: npt.NDArray[np.bool_],
    anchors: Sequence[Floats],
    num_anchors: Sequence[int],
    names: Sequence[str],
    zoom: int,
) -> Picture:
    """Draw what training sees of one image, and what its anchors are to learn.

    Boxes are in the colour of their class and say how many anchors they have; red ones have none. Anchors are thin and
    green, ignore regions grey and hatched, and the padding is hatched.

    Args:
        image: [H, W, 3] uint8 RGB, padded.
        size: (height, width) that the image fills.
        boxes: [M, 4] xyxy in pixels of the image.
        labels: [M] integers.
        ignore: [M] True for ignore regions.
        anchors: for each of the M boxes, the [_, 4] anchors to draw.
        num_anchors: for each of the M boxes, how many anchors it has, drawn or not.
        names: class names.
        zoom: whole number to enlarge the image by.

    Returns:
        [H * zoom, W * zoom, 3] uint8 RGB.
    """
    shape = (image.shape[1] * zoom, image.shape[0] * zoom)
    picture = np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    height, width = size[0] * zoom, size[1] * zoom
    _hatch(picture[height:], strength=1.0)
    _hatch(picture[:height, width:], strength=1.0)
    corners = boxes.astype(np.float64) * zoom
    for box in corners[ignore]:
        x1, y1, x2, y2 = (max(0, round(value)) for value in box.tolist())
        _hatch(picture[y1:y2, x1:x2], strength=0.35)
    line = max(1, line_width(*picture.shape[:2]) // 2)
    for anchor in np.concatenate([np.zeros((0, 4)), *anchors]) * zoom:
        x1, y1, x2, y2 = (round(value) for value in anchor.tolist())
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), ANCHOR_COLOR, line)  # no rim: there are many of them
    _draw_boxes(picture, corners, labels, ignore, num_anchors, names)
    return picture


def _draw_boxes(
    picture: Picture,
    corners: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    ignore: npt.NDArray[np.bool_],
    num_anchors: Sequence[int],
    names: Sequence[str],
) -> None:
    """Draw the boxes in pixels of the picture, the smallest on top."""
    texts, colors = [], []
    for label, ignored, count in zip(labels.tolist(), ignore.tolist(), num_anchors, strict=True):
        name = readable_name(names[label], label)
        texts.append(f"{name} (ignore)" if ignored else f"{name} {count}" if count else f"{name}: no anchor")
        colors.append(class_color(label) if ignored or count else UNMATCHED_COLOR)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order = np.argsort(areas, kind="stable").tolist()
    size = round(font_size(*picture.shape[:2]) * math.sqrt(min(1.0, _FEW_BOXES / max(1, len(corners)))))
    draw_labelled_boxes(picture, corners, texts, colors, ignore, order, tag_size=max(_LEAST_TAG, size))


def _hatch(region: Picture, strength: float) -> None:
    """Lay grey diagonal stripes over a part of a picture; strength 1 hides what was there."""
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    is_light = (rows + columns) // 6 % 3 == 0
    stripes = np.where(is_light[..., None], *_STRIPES)
    region[:] = np.rint(region * (1 - strength) + stripes * strength).astype(np.uint8)
