"""How many anchors of a dataset are foreground, and how many background: the imbalance that the focal loss is for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from detector.anchors import AnchorGenerator
from detector.data.annotations import AnnotationTable
from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.structures import BACKGROUND, AnchorTargets


@dataclass(frozen=True, slots=True)
class AnchorCounts:
    """Anchors of a dataset's images, each image counted once, padded on its own.

    Attributes:
        num_images: images, also those without objects.
        num_foreground: anchors that have an object.
        num_background: anchors that are trained as background, those over the padding too.
        num_ignored: anchors between the thresholds or inside a crowd region.
        num_unmatched_gt: objects that no anchor was assigned to.
    """

    num_images: int
    num_foreground: int
    num_background: int
    num_ignored: int
    num_unmatched_gt: int

    def __str__(self) -> str:
        ratio = f"1 : {self.num_background / self.num_foreground:.0f}" if self.num_foreground else "no foreground"
        return (
            f"foreground : background anchors = {self.num_foreground} : {self.num_background} = {ratio} "
            f"({self.num_ignored} ignored, {self.num_unmatched_gt} objects without an anchor)"
        )


def count_anchors(
    table: AnnotationTable,
    anchor_generator: AnchorGenerator,
    assign: Callable[..., AnchorTargets],
    *,
    short_side: int,
    max_side: int,
    padding: Padding,
) -> AnchorCounts:
    """Assign the anchors of every image of a dataset, without reading the images or augmenting them.

    Args:
        table: the annotations.
        anchor_generator: lays the anchors.
        assign: :func:`detector.assign.assign_anchors` with its thresholds bound.
        short_side: images are resized as in training: the shorter side to this many pixels ...
        max_side: ... but the longer side to at most this many.
        padding: rule for the padded shape of one image.

    Returns:
        The counts; all 0 for a table without images.
    """
    totals = torch.zeros(4, dtype=torch.int64)
    offsets = table.box_offsets.tolist()
    for index, (height, width) in enumerate(table.sizes.tolist()):
        new_height, new_width = resized_size((height, width), short_side, max_side)
        rows = slice(offsets[index], offsets[index + 1])
        scale = torch.tensor([new_width / width, new_height / height] * 2)
        ignore = table.ignore[rows][None]
        shapes = anchor_generator.feature_shapes(padding.padded([(new_height, new_width)]))
        boxes = (table.boxes[rows] * scale)[None]
        targets = assign(anchor_generator(shapes), boxes, table.labels[rows][None], ~ignore, ignore)
        num_foreground = targets.num_foreground.sum()
        num_background = (targets.target_labels == BACKGROUND).sum()
        num_ignored = targets.target_labels.numel() - num_foreground - num_background
        totals += torch.stack([num_foreground, num_background, num_ignored, targets.num_unmatched_gt.sum()])
    return AnchorCounts(len(table.sizes), *totals.tolist())
