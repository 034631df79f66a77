"""Matching in two Triton kernels: no matrix of overlaps, nothing read from the device.

Letters: N images, M ground truths (padded), R anchors, B blocks of them.
"""

from typing import Final

import torch
from torch import Tensor

from detector.assign.kernels import best_of_gt_kernel, match_kernel
from detector.assign.rules import MatchRules

_BLOCK: Final = 512
"""Anchors of one program, two to four each thread of its four warps: at COCO's size some 6,000 programs fill a GPU."""


def match_triton(
    anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, gt_ignore: Tensor | None, rules: MatchRules
) -> Tensor:
    """Match every anchor; arguments and result are those of :func:`detector.assign.eager.match_eager`."""
    num_images, num_gt = gt_mask.shape
    matches = torch.empty((num_images, len(anchors)), dtype=torch.int64, device=anchors.device)
    if matches.numel() == 0:
        return matches
    num_blocks = -(-len(anchors) // _BLOCK)
    anchors, gt_boxes, mask = anchors.contiguous(), gt_boxes.contiguous(), gt_mask.contiguous().view(torch.uint8)
    ignore = mask if gt_ignore is None else gt_ignore.contiguous().view(torch.uint8)
    best = anchors.new_zeros((num_images, num_gt))
    grid, options = (num_blocks, num_images), {"block": _BLOCK, "enable_fp_fusion": False}
    if rules.allow_low_quality_matches and num_gt:
        best = anchors.new_empty((num_images, num_gt, num_blocks))
        best_of_gt_kernel[grid](anchors, gt_boxes, mask, best, num_gt, len(anchors), num_blocks, **options)
        best = best.amax(dim=2)
    match_kernel[grid](
        anchors,
        gt_boxes,
        mask,
        ignore,
        best,
        matches,
        num_gt,
        len(anchors),
        rules.fg_iou_thresh,
        rules.bg_iou_thresh,
        rules.ignore_ioa_thresh,
        low_quality=rules.allow_low_quality_matches,
        has_ignore=gt_ignore is not None,
        **options,
    )
    return matches
