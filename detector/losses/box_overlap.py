"""The geometry that the overlap losses of boxes share: intersection, union and hull of every pair."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from detector.ops.boxes import box_area
from detector.ops.precision import at_least_float32

EPS: Final = 1e-7
"""Added to divisors, so that boxes without area give finite losses and gradients (torchvision's value)."""


@dataclass(frozen=True, slots=True)
class BoxOverlap:
    """Pairs of boxes and what they share.

    Attributes:
        boxes: [..., 4] xyxy, float32 or float64.
        target_boxes: [..., 4] likewise.
        iou: [...] intersection over union, in [0, 1]; 0 for two boxes without area.
        union: [...] area that one of the two covers, square pixels.
        hull_sides: [..., 2] width and height of the smallest box around both, pixels.
    """

    boxes: Tensor
    target_boxes: Tensor
    iou: Tensor
    union: Tensor
    hull_sides: Tensor


def overlap_boxes(boxes: Tensor, target_boxes: Tensor) -> BoxOverlap:
    """Return the overlap of every pair of boxes, elementwise.

    torchvision's losses select the overlapping pairs with a mask: a GPU would have to tell the host their number in
    every step. Here a negative side of the intersection is cut to 0, with the same values and gradients.

    Args:
        boxes: [..., 4] xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] likewise.

    Raises:
        ValueError: if the shapes differ, or the last dimension is not 4.
    """
    if boxes.shape != target_boxes.shape:
        raise ValueError(f"shapes differ: {tuple(boxes.shape)} and {tuple(target_boxes.shape)}")
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes must be [..., 4], got {tuple(boxes.shape)}")
    boxes, target_boxes = at_least_float32(boxes), at_least_float32(target_boxes)
    smaller, larger = torch.minimum(boxes, target_boxes), torch.maximum(boxes, target_boxes)
    # The gradient of relu at 0 is 0: boxes that just touch have none, as with torchvision's mask.
    common_sides = (smaller[..., 2:] - larger[..., :2]).relu()
    intersection = common_sides[..., 0] * common_sides[..., 1]
    union = box_area(boxes) + box_area(target_boxes) - intersection
    return BoxOverlap(
        boxes, target_boxes, intersection / (union + EPS), union, hull_sides=larger[..., 2:] - smaller[..., :2]
    )


def normalized_centre_distance(overlap: BoxOverlap) -> Tensor:
    """Return the squared distance of the centres over the squared diagonal of the hull, [...] in [0, 1)."""
    shift = overlap.boxes - overlap.target_boxes
    centre_shift = (shift[..., :2] + shift[..., 2:]) / 2
    return centre_shift.square().sum(dim=-1) / (overlap.hull_sides.square().sum(dim=-1) + EPS)
