"""Generalised IoU loss on boxes."""

from typing import Final

import torch
from torch import Tensor

from detector.ops.boxes import box_area
from detector.ops.precision import at_least_float32

_EPS: Final = 1e-7
"""Square pixels added to both divisors, so that two boxes without area give a finite loss (torchvision's value)."""


def giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - GIoU of every pair of boxes (Rezatofighi et al. 2019).

    The numbers are those of ``torchvision.ops.generalized_box_iou_loss``, which however selects the overlapping pairs
    with a mask: a GPU would have to tell the host their number in every step.

    Args:
        boxes: [..., 4] predicted xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] xyxy to reach.

    Returns:
        [...] loss of each pair, in [0, 2].

    Raises:
        ValueError: if the shapes differ.
    """
    if boxes.shape != target_boxes.shape:
        raise ValueError(f"shapes differ: {tuple(boxes.shape)} and {tuple(target_boxes.shape)}")
    boxes, target_boxes = at_least_float32(boxes), at_least_float32(target_boxes)
    smaller, larger = torch.minimum(boxes, target_boxes), torch.maximum(boxes, target_boxes)
    common_sides = (smaller[..., 2:] - larger[..., :2]).clamp(min=0)
    hull_sides = larger[..., 2:] - smaller[..., :2]
    intersection = common_sides[..., 0] * common_sides[..., 1]
    hull = hull_sides[..., 0] * hull_sides[..., 1]
    union = box_area(boxes) + box_area(target_boxes) - intersection
    return 1 - intersection / (union + _EPS) + (hull - union) / (hull + _EPS)
