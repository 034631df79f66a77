"""A training batch as pictures: what comes out of augmentation and resize, and what the anchors are to learn.

Letters: N images, M ground truths of one image (padded), R anchors.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from detector.data.opening import OpenSplit
from detector.drawing.boxes import Picture
from detector.drawing.matched_anchors import draw_training_image
from detector.ops.boxes import pairwise_iou
from detector.structures import AnchorTargets, Batch

MAX_ANCHORS: Final = 4
"""Anchors drawn of each box, those of the highest IoU: more would hide the image."""

_MIN_SIDE: Final = 1000
"""Images are drawn at a whole multiple of their size that comes near this many pixels."""


@dataclass(frozen=True, slots=True)
class BatchPicture:
    """One image of a batch.

    Attributes:
        name: the image's file and, where the dataset numbers its images, its id.
        file_name: relative to the image folder.
        size: (height, width) of the image in the batch.
        padded_size: (height, width) of the batch.
        num_anchors: anchors of each object; ignore regions are not counted.
        num_ignored: ignore regions.
        picture: [H, W, 3] uint8 RGB.
    """

    name: str
    file_name: str
    size: tuple[int, int]
    padded_size: tuple[int, int]
    num_anchors: tuple[int, ...]
    num_ignored: int
    picture: Picture

    @property
    def facts(self) -> str:
        """Sizes and counts, on one line."""
        (height, width), (padded_height, padded_width) = self.size, self.padded_size
        parts = [f"{height}x{width} in {padded_height}x{padded_width}", _count(len(self.num_anchors), "box", "boxes")]
        if self.num_anchors:
            least, most, unmatched = min(self.num_anchors), max(self.num_anchors), self.num_anchors.count(0)
            parts.append(f"{sum(self.num_anchors)} anchors, {least if least == most else f'{least}-{most}'} a box")
            parts += [f"{unmatched} without an anchor"] if unmatched else []
        parts += [_count(self.num_ignored, "ignore region", "ignore regions")] if self.num_ignored else []
        return ", ".join(parts)


def draw_batch(batch: Batch, anchors: Tensor, targets: AnchorTargets, split: OpenSplit) -> list[BatchPicture]:
    """Draw every image of a batch with its boxes and the anchors that they are assigned.

    Args:
        batch: on the CPU.
        anchors: [R, 4] of its padded shape.
        targets: what they are assigned to.
        split: where the images are from.
    """
    row_of_id = {image_id: row for row, image_id in enumerate(split.content.image_ids.tolist())}
    return [_draw(batch, i, anchors, targets, split, row_of_id[own]) for i, own in enumerate(batch.image_ids)]


def _draw(batch: Batch, i: int, anchors: Tensor, targets: AnchorTargets, split: OpenSplit, row: int) -> BatchPicture:
    """Draw image ``i`` of a batch, row ``row`` of the split."""
    kept = batch.gt_mask[i] | batch.gt_ignore[i]
    chosen = targets.foreground[i].nonzero()[:, 0]
    owners = targets.matched_idxs[i, chosen]
    matched = [anchors[chosen[owners == number]] for number in kept.nonzero()[:, 0].tolist()]
    boxes, ignore = batch.gt_boxes[i, kept], batch.gt_ignore[i, kept]
    height, width = batch.sizes[i].tolist()
    image = batch.images[i].numpy()
    picture = draw_training_image(
        image,
        (height, width),
        boxes.numpy(),
        batch.gt_labels[i, kept].numpy(),
        ignore.numpy(),
        [_best(box, own).numpy() for box, own in zip(boxes, matched, strict=True)],
        [len(own) for own in matched],
        split.content.categories.names,
        max(1, _MIN_SIDE // max(image.shape[:2])),
    )
    return BatchPicture(
        name=split.content.describe_image(row),
        file_name=split.content.file_names[row],
        size=(height, width),
        padded_size=(image.shape[0], image.shape[1]),
        num_anchors=tuple(len(own) for own, ignored in zip(matched, ignore.tolist(), strict=True) if not ignored),
        num_ignored=int(ignore.sum()),
        picture=picture,
    )


def _best(box: Tensor, anchors: Tensor) -> Tensor:
    """Return the MAX_ANCHORS anchors with the highest IoU with a box."""
    iou = pairwise_iou(box[None], anchors)[0]
    return anchors[torch.argsort(iou, descending=True, stable=True)[:MAX_ANCHORS]]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
