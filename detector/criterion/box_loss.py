"""The box loss of every anchor, by name.

Letters: N images, R anchors.
"""

from typing import Literal

from torch import Tensor

from detector.losses.box_overlap import overlap_boxes
from detector.losses.ciou import ciou_loss
from detector.losses.diou import diou_loss
from detector.losses.giou import giou_loss
from detector.losses.iou import iou_loss
from detector.losses.l1 import l1_loss
from detector.losses.smooth_l1 import smooth_l1_loss
from detector.ops.box_coding import decode_boxes, encode_boxes

BoxLossName = Literal["smooth_l1", "l1", "iou", "giou", "diou", "ciou"]


def box_losses(
    name: BoxLossName, bbox_deltas: Tensor, matched_boxes: Tensor, anchors: Tensor, *, beta: float = 0.0
) -> Tensor:
    """Return the box loss of every anchor: on the encoded offsets (smooth_l1, l1) or on the decoded boxes.

    Args:
        name: which loss.
        bbox_deltas: [N, R, 4] predicted offsets.
        matched_boxes: [N, R, 4] xyxy pixels to reach.
        anchors: [R, 4] xyxy pixels.
        beta: of smooth_l1.

    Returns:
        [N, R].
    """
    match name:
        case "smooth_l1":
            return smooth_l1_loss(bbox_deltas, encode_boxes(matched_boxes, anchors), beta=beta)
        case "l1":
            return l1_loss(bbox_deltas, encode_boxes(matched_boxes, anchors))
        case "iou":
            return iou_loss(decode_boxes(bbox_deltas, anchors), matched_boxes)
        case "giou":
            return giou_loss(decode_boxes(bbox_deltas, anchors), matched_boxes)
        case "diou":
            return diou_loss(decode_boxes(bbox_deltas, anchors), matched_boxes)
        case "ciou":
            return ciou_loss(decode_boxes(bbox_deltas, anchors), matched_boxes)


def box_quality(bbox_deltas: Tensor, matched_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoU of every anchor's decoded box with its matched box, without graph; [N, R] in [0, 1]."""
    return overlap_boxes(decode_boxes(bbox_deltas.detach(), anchors), matched_boxes).iou
