"""Pictures of a finding's examples: the image, or the part of it that matters, with the boxes drawn."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from detector.data.decode import ImageError, Pixels, decode_image
from detector.data.formats.content import UNKNOWN_SIZE
from detector.drawing.boxes import draw_detections
from detector.inspect.doctor.finding import Example
from detector.inspect.doctor.split import Split

WIDTH, HEIGHT = 400, 300
"""Largest size of a picture in pixels."""

_JPEG: Final = [
    *(cv2.IMWRITE_JPEG_QUALITY, 82),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),  # thin lines keep their colours
]
_OUTSIDE: Final = 205  # gray of what lies outside of the image
_MAX_BEYOND: Final = 1.5  # of the image's side: how far a picture follows boxes that leave the image
_SMALL: Final = 1 / 12  # boxes smaller than this part of the picture are shown enlarged
_CONTEXT: Final = 8  # an enlarged picture shows so many times the box's longer side
_LEAST_VIEW: Final = 64  # pixels of the image that a picture shows at least,
_LEAST_SHARE: Final = 0.25  # and part of its longer side: enough to see where it is
_MAX_BOXES: Final = 100  # of an image that is shown for itself

Corners = npt.NDArray[np.float64]
View = tuple[int, int, int, int]


def draw_example(split: Split, example: Example) -> bytes | None:
    """Return a JPEG of an example's boxes; of all boxes of its image where the example names none.

    Args:
        split: the one that the example is of.
        example: image and boxes to show.

    Returns:
        The bytes of the file; None where there is no image to show, or it cannot be decoded.
    """
    if example.image is None:
        return None
    try:
        image = _decode(split, example.image)
    except ImageError:
        return None
    content = split.content
    rows = np.array(example.boxes, dtype=np.int64)
    if not len(rows):
        rows = np.flatnonzero(content.image_index == example.image)[:_MAX_BOXES]
    boxes = content.boxes[rows]
    is_finite = np.isfinite(boxes).all(axis=1)
    rows, boxes = rows[is_finite], boxes[is_finite]
    ends = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)  # negative sides are shown too
    view = _choose_view(image.shape[:2], corners, may_enlarge=bool(example.boxes))
    picture, scale = _cut_out(image, view)
    drawn = draw_detections(
        picture,
        (corners - np.tile(view[:2], 2)) * scale,
        content.labels[rows],
        None,
        content.categories.names,
        ignore=content.is_ignored[rows],
    )
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), _JPEG)
    return data.tobytes() if encoded else None


def _decode(split: Split, row: int) -> Pixels:
    """Decode as training does, or, where the annotated size is another one, as viewers show the image."""
    content = split.content
    path, (height, width) = content.images_dir / content.file_names[row], content.sizes[row].tolist()
    if UNKNOWN_SIZE in (height, width) or content.is_measured[row]:
        return decode_image(path)
    try:
        return decode_image(path, (height, width))
    except ImageError:
        return decode_image(path)


def _choose_view(size: tuple[int, ...], corners: Corners, *, may_enlarge: bool) -> View:
    """Return the part to show as (x1, y1, x2, y2) in pixels of the image; it may reach beyond the image."""
    height, width = size[:2]
    image = np.array([0, 0, width, height], dtype=np.float64)
    if not len(corners):
        return 0, 0, width, height
    sides = np.tile([width, height], 2)
    limits = image + _MAX_BEYOND * sides * [-1, -1, 1, 1]
    around = np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])
    around = np.concatenate([np.maximum(around[:2], limits[:2]), np.minimum(around[2:], limits[2:])])
    whole = np.concatenate([np.minimum(image[:2], around[:2]), np.maximum(image[2:], around[2:])])
    longest = max(float((around[2:] - around[:2]).max()), 0.0)
    whole_side = float((whole[2:] - whole[:2]).max())
    touches = bool((around[:2] <= image[2:]).all() and (around[2:] >= image[:2]).all())
    if may_enlarge and touches and longest < _SMALL * whole_side:
        half = max(_CONTEXT * longest, _LEAST_VIEW, _LEAST_SHARE * whole_side) / 2 * np.array([WIDTH / HEIGHT, 1.0])
        centre = np.clip((around[:2] + around[2:]) / 2, whole[:2], whole[2:])
        whole = np.concatenate([centre - half, centre + half])
    x1, y1 = np.floor(whole[:2]).astype(np.int64).tolist()
    x2, y2 = np.ceil(whole[2:]).astype(np.int64).tolist()
    return x1, y1, x2, y2


def _cut_out(image: Pixels, view: View) -> tuple[Pixels, float]:
    """Return the part of the image as a picture, gray outside of the image, and the picture's pixels per pixel."""
    x1, y1, x2, y2 = view
    width, height = x2 - x1, y2 - y1
    part = np.full((height, width, 3), _OUTSIDE, dtype=np.uint8)
    left, top, right, bottom = max(0, x1), max(0, y1), min(image.shape[1], x2), min(image.shape[0], y2)
    if left < right and top < bottom:
        part[top - y1 : bottom - y1, left - x1 : right - x1] = image[top:bottom, left:right]
    scale = min(WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, size, interpolation=interpolation), dtype=np.uint8), scale
