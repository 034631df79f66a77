"""Generalised IoU loss on boxes."""

from torch import Tensor

from detector.losses.box_overlap import EPS, overlap_boxes


def giou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - GIoU of every pair of boxes (Rezatofighi et al. 2019).

    GIoU = IoU - (hull - union) / hull, hull = area of the smallest box around both. The numbers are those of
    ``torchvision.ops.generalized_box_iou_loss``.

    Args:
        boxes: [..., 4] predicted xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] xyxy to reach.

    Returns:
        [...] loss of each pair, in [0, 2].

    Raises:
        ValueError: if the shapes differ, or the last dimension is not 4.
    """
    overlap = overlap_boxes(boxes, target_boxes)
    hull = overlap.hull_sides[..., 0] * overlap.hull_sides[..., 1]
    return 1 - overlap.iou + (hull - overlap.union) / (hull + EPS)
