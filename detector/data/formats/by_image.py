"""The boxes of a dataset, one image at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detector.data.formats.content import DatasetContent


class ImageBoxes(NamedTuple):
    """The boxes of one image: [(x, y, width, height), ...] in pixels, their labels, and which are ignore regions."""

    boxes: list[list[float]]
    labels: list[int]
    is_ignored: list[bool]


def iterate_images(content: DatasetContent) -> Iterator[ImageBoxes]:
    """Yield the boxes of each image, in the order of the images and, within one, of the dataset."""
    order = np.argsort(content.image_index, kind="stable")
    ends = np.cumsum(content.boxes_per_image()).tolist()
    boxes, labels = content.boxes[order].tolist(), content.labels[order].tolist()
    is_ignored = content.is_ignored[order].tolist()
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield ImageBoxes(boxes[start:end], labels[start:end], is_ignored[start:end])
