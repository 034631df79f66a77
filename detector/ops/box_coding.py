"""Boxes as offsets from anchors, and back.

The parametrisation of R-CNN (Girshick et al. 2014, App. C) that RetinaNet uses with unit weights: the centre's shift
in anchor sides, and the logarithm of the sides' ratio.
"""

import math
from typing import Final

import torch
from torch import Tensor

MAX_LOG_RATIO: Final = math.log(1000.0 / 16)
"""Decoded sides are at most 62.5 anchor sides: a 16 px anchor may become 1000 px. Keeps ``exp`` finite early on."""

_MIN_SIDE: Final = 1e-6
"""Sides are raised to this before the logarithm, so that an empty box (padding) encodes to finite numbers."""


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the offsets that turn anchors into boxes.

    Args:
        boxes: [..., R, 4] xyxy pixels.
        anchors: [R, 4] xyxy pixels, of positive area.

    Returns:
        [..., R, 4] as (dx, dy, dw, dh) with dx = (cx - cx_a) / w_a and dw = log(w / w_a); finite for every finite box.
    """
    cx, cy, width, height = _centers_and_sides(boxes)
    anchor_cx, anchor_cy, anchor_width, anchor_height = _centers_and_sides(anchors)
    dx = (cx - anchor_cx) / anchor_width
    dy = (cy - anchor_cy) / anchor_height
    dw = torch.log(width.clamp(min=_MIN_SIDE) / anchor_width)
    dh = torch.log(height.clamp(min=_MIN_SIDE) / anchor_height)
    return torch.stack((dx, dy, dw, dh), dim=-1)


def decode_boxes(bbox_deltas: Tensor, anchors: Tensor) -> Tensor:
    """Return the boxes that offsets make of anchors; the inverse of :func:`encode_boxes`.

    Args:
        bbox_deltas: [..., R, 4] as (dx, dy, dw, dh); dw and dh are cut at ``MAX_LOG_RATIO``.
        anchors: [..., R, 4] xyxy pixels.

    Returns:
        [..., R, 4] xyxy pixels, x1 <= x2 and y1 <= y2, not clipped to any image.
    """
    dx, dy, dw, dh = bbox_deltas.unbind(-1)
    anchor_cx, anchor_cy, anchor_width, anchor_height = _centers_and_sides(anchors)
    cx = dx * anchor_width + anchor_cx
    cy = dy * anchor_height + anchor_cy
    half_width = 0.5 * torch.exp(dw.clamp(max=MAX_LOG_RATIO)) * anchor_width
    half_height = 0.5 * torch.exp(dh.clamp(max=MAX_LOG_RATIO)) * anchor_height
    return torch.stack((cx - half_width, cy - half_height, cx + half_width, cy + half_height), dim=-1)
