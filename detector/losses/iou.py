"""IoU loss on boxes."""

from torch import Tensor

from detector.losses.box_overlap import overlap_boxes


def iou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - IoU of every pair of boxes.

    The loss that introduced the idea is -log IoU (Yu et al. 2016, "UnitBox"); 1 - IoU is the bounded form, which the
    losses with a penalty for boxes apart build on. Boxes that do not overlap have loss 1 and no gradient: see
    :func:`detector.losses.giou_loss`.

    Args:
        boxes: [..., 4] predicted xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] xyxy to reach.

    Returns:
        [...] loss of each pair, in [0, 1]; 1 for two boxes without area.

    Raises:
        ValueError: if the shapes differ, or the last dimension is not 4.
    """
    return 1 - overlap_boxes(boxes, target_boxes).iou
