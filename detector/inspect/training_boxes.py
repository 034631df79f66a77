"""The objects of a dataset at the size that training sees them in, without reading the images.

Letters: I images, V views (an image resized to one short side), B boxes of all views.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.config import DataConfig
from detector.data.annotations import AnnotationTable
from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.inspect.ragged import IntArray, lay_ranges
from detector.structures import Size

MAX_VIEWED_BOXES: Final = 400_000
"""For more boxes than this, the mean over the short sides is as good with each image at one of them, and faster."""


@dataclass(frozen=True, slots=True)
class TrainingBoxes:
    """Boxes in pixels of the network's input; ignore regions are left out.

    Attributes:
        boxes: [B, 4] float32 xyxy, view by view, in the table's order within one.
        rows: [B] their rows in the annotation table.
        labels: [B] in [0, K).
        views: [B] the view that each lies in, rising.
        images: [V] row of each view's image in the annotation table.
        sizes: [V, 2] (height, width) of the resized image.
        padded_sizes: [V, 2] the same after padding, each image on its own.
    """

    boxes: npt.NDArray[np.float32]
    rows: IntArray
    labels: IntArray
    views: IntArray
    images: IntArray
    sizes: IntArray
    padded_sizes: IntArray

    def __len__(self) -> int:
        """B."""
        return len(self.boxes)

    @property
    def sides(self) -> npt.NDArray[np.float64]:
        """[B] side in pixels of the square of a box's area."""
        return np.asarray(np.sqrt(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1, dtype=np.float64)))


def build_training_boxes(data: DataConfig, table: AnnotationTable, max_boxes: int | None = None) -> TrainingBoxes:
    """Return the boxes of a dataset at the sizes that a configuration trains with.

    Args:
        data: sizes and padding.
        table: the annotations.
        max_boxes: about how many boxes to look at, those of evenly spaced images; None = all.

    Raises:
        UserError: an image fits in no bucket.
    """
    num_images, num_boxes = len(table), len(table.boxes)
    images = np.arange(num_images)
    if max_boxes is not None and num_boxes > max_boxes:
        images = np.linspace(0, num_images - 1, max(1, num_images * max_boxes // num_boxes)).astype(np.int64)
        num_boxes = max_boxes
    images, short_sides = plan_views(images, num_boxes, data.short_side, max_boxes or MAX_VIEWED_BOXES)
    padding = Padding(data.pad_multiple, data.buckets)
    return scale_boxes(table, images, short_sides, max_side=data.max_side, padding=padding)


def plan_views(
    images: IntArray, num_boxes: int, short_sides: Sequence[int], max_viewed_boxes: int
) -> tuple[IntArray, IntArray]:
    """Decide at which short sides images are looked at, so that means are those over training's draws.

    Args:
        images: rows of the images, rising.
        num_boxes: about how many boxes they have.
        short_sides: what training draws from.
        max_viewed_boxes: up to so many boxes, each seen as often as there are short sides, every image is looked at
            at every short side; above that each at one of them, in turn.

    Returns:
        [V] rows of images, rising, and [V] their short sides.
    """
    sides = np.array(short_sides, dtype=np.int64)
    if num_boxes * len(sides) > max_viewed_boxes:
        return images, sides[np.arange(len(images)) % len(sides)]
    return np.repeat(images, len(sides)), np.tile(sides, len(images))


def scale_boxes(
    table: AnnotationTable, images: IntArray, short_sides: IntArray, *, max_side: int, padding: Padding
) -> TrainingBoxes:
    """Return the boxes of some images as training's resize leaves them, before any augmentation.

    Args:
        table: the annotations.
        images: [V] rows of images.
        short_sides: [V] short side in pixels that each is resized to.
        max_side: limit of the longer side in pixels.
        padding: rule of the padded shape.

    Raises:
        UserError: an image fits in no bucket.
    """
    resized = cache(resized_size)

    @cache
    def padded(size: Size) -> Size:
        return padding.padded([size])

    old = table.sizes.numpy()[images].reshape(-1, 2)
    pairs = zip(map(tuple, old.tolist()), short_sides.tolist(), strict=True)
    new = [resized(size, short_side, max_side) for size, short_side in pairs]
    sizes = np.array(new, dtype=np.int64).reshape(-1, 2)
    offsets = table.box_offsets.numpy()
    views, rows = lay_ranges(offsets[images], np.diff(offsets)[images])
    is_object = ~table.ignore.numpy()[rows]
    views, rows = views[is_object], rows[is_object]
    ratios = np.tile((sizes / old)[views][:, ::-1], 2)  # as in resize_sample: float64, of each axis
    return TrainingBoxes(
        boxes=(table.boxes.numpy()[rows] * ratios).astype(np.float32),
        rows=rows,
        labels=table.labels.numpy()[rows],
        views=views,
        images=images,
        sizes=sizes,
        padded_sizes=np.array([padded(size) for size in new], dtype=np.int64).reshape(-1, 2),
    )
