"""Assignment of anchors to ground truth, for a whole batch at once and without reading from the device.

Letters: N images, M ground truths (padded), R anchors.
"""

from typing import Final

import torch
from torch import Tensor

from detector.ops.boxes import box_area, pairwise_intersection, pairwise_iou
from detector.structures import BACKGROUND, IGNORE, AnchorTargets

_MAX_PAIRS: Final = 2**26
"""Elements of one [N, chunk, R] block of IoUs (256 MB in float32): bounds the memory for crowded images."""


@torch.no_grad()
def assign_anchors(
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
    """Decide for every anchor whether it is foreground, background or ignored.

    RetinaNet, Sec. 4: (1) an anchor whose best IoU reaches ``fg_iou_thresh`` is foreground of that ground truth, the
    first one on ties; (2) below ``bg_iou_thresh`` it is background, between the two it is ignored. Two additions:
    (3) with ``allow_low_quality_matches`` the anchors that share the best IoU of some ground truth, if above 0, are
    foreground too (of the ground truth that they overlap most, as in torchvision and detectron2); (4) an anchor that
    matches nothing and has at least ``ignore_ioa_thresh`` of its area in one ignore region is ignored.

    Args:
        anchors: [R, 4] xyxy pixels.
        gt_boxes: [N, M, 4] xyxy pixels; M may be 0.
        gt_labels: [N, M] int64 in [0, K).
        gt_mask: [N, M] bool, True for objects. Other rows (padding, ignore regions) never match.
        gt_ignore: [N, M] bool, True for ignore regions; None = there are none.
        fg_iou_thresh: IoU from which an anchor is foreground.
        bg_iou_thresh: IoU below which an anchor is background.
        allow_low_quality_matches: whether rule (3) applies.
        ignore_ioa_thresh: intersection over the anchor's area from which rule (4) applies.

    Returns:
        Targets for [N, R] anchors. All are ``BACKGROUND`` where an image has no rows.

    Raises:
        ValueError: if ``bg_iou_thresh > fg_iou_thresh``.
    """
    if bg_iou_thresh > fg_iou_thresh:
        raise ValueError(f"bg_iou_thresh = {bg_iou_thresh} is above fg_iou_thresh = {fg_iou_thresh}")
    num_images, num_gt = gt_mask.shape
    best_iou = anchors.new_full((num_images, len(anchors)), -1.0)
    best_idxs = torch.zeros_like(best_iou, dtype=torch.int64)
    forced = torch.zeros_like(best_iou, dtype=torch.bool)
    in_ignore = torch.zeros_like(forced)
    chunk = max(1, _MAX_PAIRS // max(1, num_images * len(anchors)))
    for start in range(0, num_gt, chunk):
        rows = slice(start, start + chunk)
        mask = gt_mask[:, rows, None]  # [N, m, 1]
        iou = pairwise_iou(gt_boxes[:, rows], anchors).masked_fill_(~mask, -1.0)  # [N, m, R]
        chunk_best, chunk_idxs = iou.max(dim=1)
        better = chunk_best > best_iou
        best_idxs = torch.where(better, chunk_idxs + start, best_idxs)
        best_iou = torch.where(better, chunk_best, best_iou)
        if allow_low_quality_matches:
            best_of_gt = iou.amax(dim=2, keepdim=True)  # [N, m, 1]
            forced |= ((iou == best_of_gt) & (best_of_gt > 0)).any(dim=1)
        if gt_ignore is not None:
            ioa = pairwise_intersection(gt_boxes[:, rows], anchors) / box_area(anchors)
            in_ignore |= ((ioa >= ignore_ioa_thresh) & gt_ignore[:, rows, None]).any(dim=1)

    foreground = (best_iou >= fg_iou_thresh) | forced
    ignored = ~foreground & ((best_iou >= bg_iou_thresh) | in_ignore)
    matched_idxs = torch.where(foreground, best_idxs, 0)
    return AnchorTargets(
        target_labels=_labels(foreground, ignored, gt_labels, matched_idxs),
        matched_idxs=matched_idxs,
        matched_boxes=_gather_boxes(gt_boxes, matched_idxs),
        num_unmatched_gt=_count_unmatched(foreground, matched_idxs, gt_mask),
    )


def _labels(foreground: Tensor, ignored: Tensor, gt_labels: Tensor, matched_idxs: Tensor) -> Tensor:
    not_foreground = torch.where(ignored, IGNORE, BACKGROUND)
    if gt_labels.shape[1] == 0:
        return not_foreground
    return torch.where(foreground, gt_labels.gather(1, matched_idxs), not_foreground)


def _gather_boxes(gt_boxes: Tensor, matched_idxs: Tensor) -> Tensor:
    if gt_boxes.shape[1] == 0:
        return gt_boxes.new_zeros((*matched_idxs.shape, 4))
    return gt_boxes.gather(1, matched_idxs.unsqueeze(-1).expand(-1, -1, 4))


def _count_unmatched(foreground: Tensor, matched_idxs: Tensor, gt_mask: Tensor) -> Tensor:
    """Return [N] objects that no anchor was assigned to."""
    num_anchors_of_gt = torch.zeros_like(gt_mask, dtype=torch.int64)
    if gt_mask.shape[1]:
        num_anchors_of_gt.scatter_add_(1, matched_idxs, foreground.to(torch.int64))
    return (gt_mask & (num_anchors_of_gt == 0)).sum(dim=1)
