"""Matching in plain torch operations over a whole batch at once: nothing is read from the device.

Letters: N images, M ground truths (padded), m of them at a time, R anchors.
"""

from typing import Final

import torch
from torch import Tensor

from detector.assign.rules import MatchRules, Overlaps, compare, decide

_MAX_PAIRS: Final = 2**24
"""Elements of one [N, m, R] block, 64 MB in float32: bounds the memory for crowded images. A batch at
COCO's size takes a few blocks, each of which fills a GPU."""


def match_eager(
    anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, gt_ignore: Tensor | None, rules: MatchRules
) -> Tensor:
    """Match every anchor, a few ground truths of all images at a time.

    Args:
        anchors: [R, 4] xyxy pixels.
        gt_boxes: [N, M, 4] xyxy pixels; M may be 0.
        gt_mask: [N, M] bool, True for objects.
        gt_ignore: [N, M] bool, True for ignore regions; None = there are none.
        rules: the thresholds.

    Returns:
        [N, R] int64: a row in [0, M), ``BACKGROUND`` or ``IGNORE``.
    """
    num_images, num_gt = gt_mask.shape
    best_iou = anchors.new_full((num_images, len(anchors)), -1.0)
    nothing = torch.zeros_like(best_iou, dtype=torch.bool)
    found = Overlaps(best_iou, torch.zeros_like(best_iou, dtype=torch.int64), nothing, nothing)
    chunk = max(1, _MAX_PAIRS // max(1, num_images * len(anchors)))
    for start in range(0, num_gt, chunk):
        rows = slice(start, start + chunk)
        ignore = None if gt_ignore is None else gt_ignore[:, rows]
        found = _merge(found, compare(gt_boxes[:, rows], anchors, gt_mask[:, rows], ignore, rules), start)
    return decide(found, rules)


def _merge(found: Overlaps, more: Overlaps, start: int) -> Overlaps:
    """Return the overlaps with the rows before ``start`` and from there on together; on ties the earlier ones win."""
    better = more.best_iou > found.best_iou
    return Overlaps(
        torch.where(better, more.best_iou, found.best_iou),
        torch.where(better, more.best_idxs + start, found.best_idxs),
        found.forced | more.forced,
        found.in_ignore | more.in_ignore,
    )
