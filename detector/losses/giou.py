"""Generalised IoU loss on boxes."""

from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from detector.ops.precision import at_least_float32


def giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - GIoU of every pair of boxes (Rezatofighi et al. 2019), by torchvision.

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
    loss: Tensor = generalized_box_iou_loss(at_least_float32(boxes), target_boxes)
    return loss
