"""The rules of RetinaNet's assignment, apart from which overlaps are computed and in which order.

Letters: M ground truths, R anchors; in front of both, any dimensions that broadcast.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.ops.boxes import box_area, iou_of_intersection, pairwise_intersection
from detector.structures import BACKGROUND, IGNORE


@dataclass(frozen=True, slots=True)
class MatchRules:
    """Thresholds of the assignment, see :func:`detector.assign.assign_anchors`.

    Attributes:
        fg_iou_thresh: IoU in [0, 1] from which an anchor is foreground.
        bg_iou_thresh: IoU in [0, 1] below which an anchor is background.
        allow_low_quality_matches: whether the best anchors of a ground truth are foreground whatever their IoU.
        ignore_ioa_thresh: intersection over the anchor's area in (0, 1] from which an ignore region spares it.

    Raises:
        ValueError: if ``bg_iou_thresh > fg_iou_thresh`` or ``ignore_ioa_thresh <= 0``.
    """

    fg_iou_thresh: float
    bg_iou_thresh: float
    allow_low_quality_matches: bool
    ignore_ioa_thresh: float

    def __post_init__(self) -> None:
        if self.bg_iou_thresh > self.fg_iou_thresh:
            raise ValueError(f"bg_iou_thresh = {self.bg_iou_thresh} is above fg_iou_thresh = {self.fg_iou_thresh}")
        if self.ignore_ioa_thresh <= 0:
            raise ValueError(
                f"ignore_ioa_thresh = {self.ignore_ioa_thresh} must be above 0, which every anchor reaches"
            )


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What the ground truths of its image are to each anchor.

    Attributes:
        best_iou: [..., R] highest IoU with an object; -1 where there is none.
        best_idxs: [..., R] int64, row of that object, the first one on ties.
        forced: [..., R] bool, whether the anchor is among the best of some object that it touches.
        in_ignore: [..., R] bool, whether an ignore region covers enough of it.
    """

    best_iou: Tensor
    best_idxs: Tensor
    forced: Tensor
    in_ignore: Tensor


def compare(
    gt_boxes: Tensor,
    anchors: Tensor,
    gt_mask: Tensor,
    gt_ignore: Tensor | None,
    rules: MatchRules,
    best_of_gt: Tensor | None = None,
) -> Overlaps:
    """Compare each ground truth with each anchor; the intersections serve both objects and ignore regions.

    Args:
        gt_boxes: [..., M, 4] xyxy pixels, M at least 1.
        anchors: [..., R, 4] xyxy pixels.
        gt_mask: [..., M] bool, True for objects.
        gt_ignore: [..., M] bool, True for ignore regions; None = there are none.
        rules: the thresholds.
        best_of_gt: [..., M] highest IoU of each object with any anchor; None = with those given.
    """
    intersection = pairwise_intersection(gt_boxes, anchors)  # [..., M, R]
    in_ignore: Tensor | None = None
    if gt_ignore is not None:
        covered = intersection / box_area(anchors).unsqueeze(-2) >= rules.ignore_ioa_thresh
        in_ignore = covered.logical_and_(gt_ignore.unsqueeze(-1)).any(dim=-2)
        del covered
    iou = iou_of_intersection(intersection, gt_boxes, anchors).masked_fill_(~gt_mask.unsqueeze(-1), -1.0)
    best_iou, best_idxs = iou.max(dim=-2)
    forced = torch.zeros_like(best_iou, dtype=torch.bool)
    if rules.allow_low_quality_matches:
        best = iou.amax(dim=-1) if best_of_gt is None else best_of_gt
        forced = (iou == best.unsqueeze(-1)).logical_and_(best.unsqueeze(-1) > 0).any(dim=-2)
    return Overlaps(best_iou, best_idxs, forced, torch.zeros_like(forced) if in_ignore is None else in_ignore)


def decide(overlaps: Overlaps, rules: MatchRules) -> Tensor:
    """Return the match of each anchor: [..., R] int64, the row of its object, ``BACKGROUND`` or ``IGNORE``."""
    foreground = (overlaps.best_iou >= rules.fg_iou_thresh) | overlaps.forced
    ignored = (overlaps.best_iou >= rules.bg_iou_thresh) | overlaps.in_ignore
    return torch.where(foreground, overlaps.best_idxs, torch.where(ignored, IGNORE, BACKGROUND))
