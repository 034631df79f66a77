"""Pictures of the boxes that no anchor fits, beside the anchor that comes nearest."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from detector.data.dataset import DetectionDataset
from detector.data.resize import resize_sample
from detector.drawing.boxes import Picture, draw_labelled_boxes, font_size, side_by_side
from detector.drawing.colors import Color
from detector.drawing.text import readable_name
from detector.inspect.anchor_coverage import Coverage
from detector.inspect.anchor_grid import Floats
from detector.inspect.ragged import IntArray

BOX_COLOR: Final[Color] = (255, 70, 50)
ANCHOR_COLOR: Final[Color] = (255, 225, 60)

_MIN_SIDE: Final = 700
"""Images are drawn at a whole multiple of their size that comes near this many pixels."""

_AROUND: Final = 4.0
"""The second picture shows so many times the extent of the box and its anchor ..."""

_LEAST_AROUND: Final = 48
"""... and at least so many pixels of the image at training."""


class MisfitPicture(NamedTuple):
    """An image with boxes that no anchor fits.

    Attributes:
        row: of the image in the dataset.
        picture: [H, W, 3] uint8 RGB.
    """

    row: int
    picture: Picture


def draw_misfits(dataset: DetectionDataset, coverage: Coverage, max_pictures: int) -> Iterator[MisfitPicture]:
    """Yield pictures of the images whose boxes are farthest from every anchor, the worst first.

    At the left all such boxes of the image (red) and the best anchor of each (yellow, dashed), at the right the worst
    of them from near, with its best IoU.

    Args:
        dataset: the images.
        coverage: of their boxes.
        max_pictures: at most so many images.

    Raises:
        ImageError: an image cannot be read.
    """
    training, best_iou = coverage.training, coverage.matches.best_iou
    misfits = np.flatnonzero(~coverage.is_reached | coverage.is_unmatched)
    misfits = misfits[np.argsort(best_iou[misfits], kind="stable")]
    _, first = np.unique(training.images[training.views[misfits]], return_index=True)
    for worst in misfits[np.sort(first)][:max_pictures].tolist():
        view = int(training.views[worst])
        others = misfits[(training.views[misfits] == view) & (misfits != worst)]
        row = int(training.images[view])
        yield MisfitPicture(row, _draw(dataset, coverage, row, np.array([worst, *others])))


def _draw(dataset: DetectionDataset, coverage: Coverage, image_row: int, rows: IntArray) -> Picture:
    """Draw an image with the boxes ``rows``, the worst first."""
    training, matches = coverage.training, coverage.matches
    height, width = training.sizes[training.views[rows[0]]].tolist()
    image = resize_sample(dataset[image_row], (height, width)).image
    boxes, anchors = training.boxes[rows].astype(np.float64), matches.best_anchors[rows].astype(np.float64)
    label = int(training.labels[rows[0]])
    text = f"{readable_name(dataset.categories.names[label], label)} {matches.best_iou[rows[0]]:.2f}"
    # Without names here: they would hide boxes that are small, as most of these are.
    whole = _with_boxes(image, boxes, anchors, [""] * len(rows), max(1, _MIN_SIDE // max(height, width)))
    x1, y1, x2, y2 = _window(np.stack([boxes[0], anchors[0]]), height, width)
    corner = np.array([x1, y1, x1, y1], dtype=np.float64)
    zoom = whole.shape[0] / (y2 - y1)
    near = _with_boxes(image[y1:y2, x1:x2], boxes[:1] - corner, anchors[:1] - corner, [text], zoom)
    return side_by_side(
        whole, near, ("red: boxes that no anchor fits; yellow: their best anchors", "the worst, and its best IoU")
    )


def _with_boxes(image: Picture, boxes: Floats, anchors: Floats, texts: Sequence[str], zoom: float) -> Picture:
    """Return the enlarged image with boxes over their anchors, the first on top."""
    picture = np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    order, dashed = range(len(texts)), np.ones(len(texts), dtype=np.bool_)
    size = font_size(*picture.shape[:2])
    for corners, names, color, is_dashed in (
        (anchors, [""] * len(texts), ANCHOR_COLOR, dashed),
        (boxes, texts, BOX_COLOR, ~dashed),
    ):
        draw_labelled_boxes(picture, corners * zoom, names, [color] * len(texts), is_dashed, order, tag_size=size)
    return picture


def _window(boxes: Floats, height: int, width: int) -> tuple[int, int, int, int]:
    """Return a square (x1, y1, x2, y2) of pixels around boxes, moved into the image and no larger than it."""
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    extent = max(float((high - low).max()) * _AROUND / 2, _LEAST_AROUND)
    side = int(min(extent, height, width))
    x1, y1 = (round(float(value)) for value in (low + high - side) / 2)
    x1, y1 = min(max(x1, 0), width - side), min(max(y1, 0), height - side)
    return x1, y1, x1 + side, y1 + side
