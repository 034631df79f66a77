"""The largest batch that training can meet: what memory must be enough for. Letters: N images, M boxes of one."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.config import DataConfig
from detector.data.annotations import AnnotationTable
from detector.data.order import group_images
from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.structures import Batch, Size

MIN_BOX_SIDE = 8
"""Pixels."""


@dataclass(frozen=True, slots=True)
class LargestBatch:
    """What is largest over all batches that a dataset can give.

    Attributes:
        size: (height, width) that the largest batch is padded to.
        num_boxes: M, boxes of the image that has most, ignore regions included.
        num_classes: K.
    """

    size: Size
    num_boxes: int
    num_classes: int

    def make(self, num_images: int, seed: int = 0) -> Batch:
        """Return such a batch of noise with random objects, on the host.

        Args:
            num_images: N, at least 1.
            seed: decides pixels, boxes and labels; torch's global random state is not moved.
        """
        generator = torch.Generator().manual_seed(seed)
        height, width = self.size
        boxes_shape = (num_images, self.num_boxes)
        images = torch.randint(0, 256, (num_images, height, width, 3), dtype=torch.uint8, generator=generator)
        is_object = torch.ones(boxes_shape, dtype=torch.bool)
        return Batch(
            images=images,
            sizes=torch.tensor([self.size] * num_images),
            gt_boxes=self._boxes(num_images, generator),
            gt_labels=torch.randint(0, self.num_classes, boxes_shape, generator=generator),
            gt_mask=is_object,
            gt_ignore=~is_object,
            image_ids=tuple(range(num_images)),
            original_sizes=(self.size,) * num_images,
        )

    def _boxes(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Return [N, M, 4] boxes inside the images, of MIN_BOX_SIDE up to about half a side."""
        limits = torch.tensor([self.size[1], self.size[0]], dtype=torch.float32)
        shape = (num_images, self.num_boxes, 2)
        side = (torch.rand(shape, generator=generator) * limits * 0.5).clamp(min=MIN_BOX_SIDE).minimum(limits)
        corner = torch.rand(shape, generator=generator) * (limits - side)
        return torch.cat((corner, corner + side), dim=2)


def build_largest_batch(data: DataConfig, table: AnnotationTable) -> LargestBatch:
    """Find the largest batch without dealing any, from the annotated sizes and the number of boxes.

    The tallest and the widest image of a group (orientation, with ``data.aspect_grouping``) at the largest short side
    may meet in one batch; with buckets it is the largest of them. Batches of few images are mostly smaller. Transforms
    that enlarge an image before the resize, such as a rotation that keeps the corners, are not foreseen.

    Args:
        data: sizes and padding of the configuration.
        table: annotations to learn from, of at least one image.
    """
    counts = table.box_offsets.diff()
    return LargestBatch(
        size=_largest_size(data, table),
        num_boxes=int(counts.max()),
        num_classes=len(table.categories),
    )


def _largest_size(data: DataConfig, table: AnnotationTable) -> Size:
    if data.buckets is not None:
        return max(data.buckets, key=_area)
    padding = Padding(data.pad_multiple)
    sizes = np.unique(table.sizes.numpy(), axis=0)  # a few hundred of COCO's 118k
    groups = group_images(sizes, by_aspect=data.aspect_grouping)
    resized = [resized_size((int(h), int(w)), max(data.short_side), data.max_side) for h, w in sizes]
    shapes = [
        padding.padded([size for size, group_of in zip(resized, groups, strict=True) if group_of == group])
        for group in np.unique(groups)
    ]
    return max(shapes, key=_area)


def _area(size: Size) -> int:
    return size[0] * size[1]
