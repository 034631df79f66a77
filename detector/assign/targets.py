"""From matches to what the losses read.

Letters: N images, M ground truths (padded), R anchors.
"""

import torch
from torch import Tensor

from detector.structures import AnchorTargets


def targets_of_matches(matches: Tensor, gt_boxes: Tensor, gt_labels: Tensor, gt_mask: Tensor) -> AnchorTargets:
    """Gather labels and boxes of the matched ground truths, and count the objects that nothing matched.

    Args:
        matches: [N, R] int64, a row in [0, M), ``BACKGROUND`` or ``IGNORE``.
        gt_boxes: [N, M, 4] xyxy pixels; M may be 0.
        gt_labels: [N, M] int64 in [0, K).
        gt_mask: [N, M] bool, True for objects.
    """
    num_images, num_gt = gt_mask.shape
    if num_gt == 0:
        no_object = torch.zeros_like(matches)
        no_boxes = gt_boxes.new_zeros((*matches.shape, 4))
        return AnchorTargets(matches, no_object, no_boxes, no_object.new_zeros(num_images))
    foreground = matches >= 0
    matched_idxs = matches.clamp(min=0)
    labels = gt_labels.gather(1, matched_idxs)
    # Whole rows of 4 numbers: three times as fast on a CPU as a gather of single ones.
    first_rows = torch.arange(0, num_images * num_gt, num_gt, device=matches.device)[:, None]
    boxes = gt_boxes.reshape(-1, 4).index_select(0, matched_idxs.add_(first_rows).flatten())
    matched_idxs.sub_(first_rows)
    num_anchors_of_gt = torch.zeros_like(gt_labels, dtype=torch.int32).scatter_add_(1, matched_idxs, foreground.int())
    return AnchorTargets(
        target_labels=torch.where(foreground, labels, matches, out=labels),
        matched_idxs=matched_idxs,
        matched_boxes=boxes.view(*matches.shape, 4),
        num_unmatched_gt=(gt_mask & (num_anchors_of_gt == 0)).sum(dim=1),
    )
