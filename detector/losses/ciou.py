"""Complete IoU loss on boxes."""

import math

import torch
from torch import Tensor

from detector.losses.box_overlap import EPS, normalized_centre_distance, overlap_boxes


def ciou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - CIoU of every pair of boxes (Zheng et al. 2020, arXiv 1911.08287).

    1 - IoU + d^2 / c^2 + alpha v: the distance IoU loss (:func:`detector.losses.diou_loss`) and a penalty for another
    aspect ratio, v = 4 / pi^2 (atan(w_target / h_target) - atan(w / h))^2, with alpha = v / (1 - IoU + v) taken as a
    constant: it trades off, and is not differentiated. The numbers are those of
    ``torchvision.ops.complete_box_iou_loss``, except that boxes without area give finite ones here.

    Args:
        boxes: [..., 4] predicted xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] xyxy to reach.

    Returns:
        [...] loss of each pair, in [0, 2.5].

    Raises:
        ValueError: if the shapes differ, or the last dimension is not 4.
    """
    overlap = overlap_boxes(boxes, target_boxes)
    angle_shift = _aspect_angle(overlap.target_boxes) - _aspect_angle(overlap.boxes)
    v = 4 / math.pi**2 * angle_shift.square()
    with torch.no_grad():
        alpha = v / (1 - overlap.iou + v + EPS)
    return 1 - overlap.iou + normalized_centre_distance(overlap) + alpha * v


def _aspect_angle(boxes: Tensor) -> Tensor:
    """Return atan(width / height) of each box, [...] radians in (0, pi / 2)."""
    # Without the clamp a box without area would have the ratio 0 / 0, or an infinite one whose gradient is NaN.
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=EPS).unbind(-1)
    return torch.atan(width / height)
