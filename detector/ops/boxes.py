"""Area, intersection and clipping of boxes.

Boxes are xyxy, continuous (width = x2 - x1). Letters: N images, M ground truths, R anchors.
"""

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Return the area of each box.

    Args:
        boxes: [..., 4] xyxy, x1 <= x2 and y1 <= y2.

    Returns:
        [...] area in square pixels.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def pairwise_intersection(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the intersection area of every ground truth with every anchor.

    Works on one coordinate at a time: no temporary has a trailing dimension of 2 or 4.

    Args:
        gt_boxes: [..., M, 4] xyxy; M may be 0.
        anchors: [..., R, 4] xyxy; the leading dimensions of both broadcast.

    Returns:
        [..., M, R] area in square pixels, 0 where they do not touch.
    """
    gt_x1, gt_y1, gt_x2, gt_y2 = gt_boxes.unsqueeze(-2).unbind(-1)  # [..., M, 1]
    x1, y1, x2, y2 = anchors.unsqueeze(-3).unbind(-1)  # [..., 1, R]
    width = (torch.minimum(gt_x2, x2) - torch.maximum(gt_x1, x1)).clamp_(min=0)
    height = (torch.minimum(gt_y2, y2) - torch.maximum(gt_y1, y1)).clamp_(min=0)
    return width.mul_(height)


def iou_of_intersection(intersection: Tensor, gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return intersection over union, written over the intersection.

    Args:
        intersection: [..., M, R] of :func:`pairwise_intersection`; it becomes the result.
        gt_boxes: [..., M, 4] xyxy; M may be 0.
        anchors: [..., R, 4] xyxy, of positive area.

    Returns:
        [..., M, R] in [0, 1].
    """
    union = (box_area(gt_boxes).unsqueeze(-1) + box_area(anchors).unsqueeze(-2)).sub_(intersection)
    return intersection.div_(union)


def pairwise_iou(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return intersection over union of every ground truth with every anchor.

    Args:
        gt_boxes: [..., M, 4] xyxy; M may be 0. Rows of zeros (padding) have IoU 0 with every anchor.
        anchors: [..., R, 4] xyxy, of positive area; the leading dimensions of both broadcast.

    Returns:
        [..., M, R] in [0, 1].
    """
    return iou_of_intersection(pairwise_intersection(gt_boxes, anchors), gt_boxes, anchors)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the boxes cut at the borders of an image.

    Args:
        boxes: [..., 4] xyxy.
        size: (height, width) of the image.

    Returns:
        [..., 4] with x in [0, width] and y in [0, height].
    """
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1)
