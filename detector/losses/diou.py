"""Distance IoU loss on boxes."""

from torch import Tensor

from detector.losses.box_overlap import normalized_centre_distance, overlap_boxes


def diou_loss(boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """Return 1 - DIoU of every pair of boxes (Zheng et al. 2020, arXiv 1911.08287).

    1 - IoU + d^2 / c^2, d = distance of the two centres, c = diagonal of the smallest box around both. The numbers are
    those of ``torchvision.ops.distance_box_iou_loss``.

    Args:
        boxes: [..., 4] predicted xyxy, x1 <= x2 and y1 <= y2; half types are computed in float32.
        target_boxes: [..., 4] xyxy to reach.

    Returns:
        [...] loss of each pair, in [0, 2].

    Raises:
        ValueError: if the shapes differ, or the last dimension is not 4.
    """
    overlap = overlap_boxes(boxes, target_boxes)
    return 1 - overlap.iou + normalized_centre_distance(overlap)
