"""The assignment as it was first written, over all pairs in one piece: kept as it is, to compare others with."""

import torch
from torch import Tensor

from detector.structures import BACKGROUND, IGNORE, AnchorTargets


def reference_targets(
    anchors: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    gt_mask: Tensor,
    gt_ignore: Tensor | None = None,
    *,
    fg_iou_thresh: float = 0.5,
    bg_iou_thresh: float = 0.4,
    allow_low_quality_matches: bool = True,
    ignore_ioa_thresh: float = 0.5,
) -> AnchorTargets:
    """Targets of a batch with at least one row of ground truth."""
    iou = pairwise_intersection(gt_boxes, anchors)
    iou = iou / (box_area(gt_boxes)[..., None] + box_area(anchors) - iou)
    iou = torch.where(gt_mask[..., None], iou, -1.0)  # [N, M, R]
    best_iou, best_idxs = iou.max(dim=1)
    foreground = best_iou >= fg_iou_thresh
    if allow_low_quality_matches:
        best_of_gt = iou.amax(dim=2, keepdim=True)
        foreground |= ((iou == best_of_gt) & (best_of_gt > 0)).any(dim=1)
    ignored = best_iou >= bg_iou_thresh
    if gt_ignore is not None:
        ioa = pairwise_intersection(gt_boxes, anchors) / box_area(anchors)
        ignored |= ((ioa >= ignore_ioa_thresh) & gt_ignore[..., None]).any(dim=1)

    matched_idxs = torch.where(foreground, best_idxs, 0)
    labels = torch.where(ignored, IGNORE, BACKGROUND)
    num_anchors_of_gt = torch.zeros_like(gt_labels).scatter_add_(1, matched_idxs, foreground.long())
    return AnchorTargets(
        target_labels=torch.where(foreground, gt_labels.gather(1, matched_idxs), labels),
        matched_idxs=matched_idxs,
        matched_boxes=gt_boxes.gather(1, matched_idxs[..., None].expand(-1, -1, 4)),
        num_unmatched_gt=(gt_mask & (num_anchors_of_gt == 0)).sum(dim=1),
    )


def box_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_intersection(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    gt = gt_boxes[..., None, :]
    width = (torch.minimum(gt[..., 2], anchors[:, 2]) - torch.maximum(gt[..., 0], anchors[:, 0])).clamp(min=0)
    height = (torch.minimum(gt[..., 3], anchors[:, 3]) - torch.maximum(gt[..., 1], anchors[:, 1])).clamp(min=0)
    return width * height
