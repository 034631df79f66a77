"""Matching on a CPU: only the pairs of ground truth and anchor that can matter.

Anchors come in the order of the feature maps, so a block of neighbours covers a small part of the image, and a ground
truth touches few of the blocks. Three passes, each over fewer pairs:

1. the best IoU of each ground truth in each block that it touches;
2. in the blocks where that is high enough, the anchors that may be foreground or ignored: the candidates;
3. every rule, for each candidate and all ground truths of its image.

The other anchors are background. Pairs are found by reading values, which is nothing on a CPU and would stall a GPU.

Letters: N images, M ground truths (padded), G = N * M of the batch, R anchors, B blocks of S anchors, P pairs of a
block and a ground truth.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from detector.assign.rules import MatchRules, Overlaps, compare, decide
from detector.ops.boxes import box_area, pairwise_intersection, pairwise_iou

_BLOCK: Final = 512
"""S. Smaller blocks are more to loop over, larger ones are touched by more ground truths."""

_MAX_PAIRS: Final = 2**15 - _BLOCK
"""Elements of a temporary. It stays in the cache; and from 2^15 elements on, torch splits an operation over its
threads, which then wait for each other for longer than they work, most of all with loader processes beside them."""

_LEAST: Final = 2.0**-149
"""The smallest float32 above 0: an anchor that does not touch a ground truth is no candidate."""


def match_sparse(
    anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, gt_ignore: Tensor | None, rules: MatchRules
) -> Tensor:
    """Match every anchor; arguments and result are those of :func:`detector.assign.eager.match_eager`."""
    matches = _match_untouched(gt_mask, rules).unsqueeze(1).repeat(1, len(anchors))
    if matches.numel() == 0 or gt_mask.numel() == 0:
        return matches
    blocks, boxes = _blocks(anchors), gt_boxes.reshape(-1, 4)
    touching = _touching(blocks, boxes)  # [B, G]
    block_idxs, gt_idxs = (touching & gt_mask.flatten()).nonzero().unbind(1)
    best_of_pair = _best_of_pairs(blocks, boxes, block_idxs, gt_idxs)
    best_of_gt = boxes.new_zeros(len(boxes)).scatter_reduce_(0, gt_idxs, best_of_pair, "amax")

    limits = torch.full_like(best_of_gt, rules.bg_iou_thresh)
    if rules.allow_low_quality_matches:
        limits = torch.minimum(limits, best_of_gt)
    limits.clamp_(min=_LEAST)
    kept = best_of_pair >= limits[gt_idxs]
    is_candidate = torch.zeros_like(matches, dtype=torch.bool)
    _mark_candidates(is_candidate, pairwise_iou, blocks, boxes, block_idxs[kept], gt_idxs[kept], limits)
    if gt_ignore is not None and gt_ignore.any():
        block_idxs, gt_idxs = (touching & gt_ignore.flatten()).nonzero().unbind(1)
        limits.fill_(rules.ignore_ioa_thresh)
        _mark_candidates(is_candidate, _pairwise_ioa, blocks, boxes, block_idxs, gt_idxs, limits)

    best_of_gt = best_of_gt.view_as(gt_mask)
    for part in is_candidate.flatten().nonzero().squeeze(1).split(max(1, _MAX_PAIRS // gt_mask.shape[1])):
        images, anchor_idxs = part // len(anchors), part % len(anchors)
        ignore = None if gt_ignore is None else gt_ignore[images]
        found = compare(
            gt_boxes[images], anchors[anchor_idxs].unsqueeze(1), gt_mask[images], ignore, rules, best_of_gt[images]
        )
        matches.view(-1)[part] = decide(found, rules).squeeze(1)
    return matches


def _match_untouched(gt_mask: Tensor, rules: MatchRules) -> Tensor:
    """Return the match of an anchor without any overlap, [N]: background, unless a threshold is 0."""
    if gt_mask.shape[1] == 0:
        gt_mask = gt_mask.new_zeros(len(gt_mask), 1)
    has_object = gt_mask.any(dim=1)
    nothing = torch.zeros_like(has_object)
    first = gt_mask.long().argmax(dim=1)
    return decide(Overlaps(torch.where(has_object, 0.0, -1.0), first, nothing, nothing), rules)


def _blocks(anchors: Tensor) -> Tensor:
    """Return anchors in blocks, [B, S, 4], the last one filled up with the last anchor.

    In memory, each coordinate of a block's anchors lies in one piece: operations on strided numbers are far slower.
    """
    num_blocks = -(-len(anchors) // _BLOCK)
    idxs = torch.arange(num_blocks * _BLOCK, device=anchors.device).clamp_(max=len(anchors) - 1)
    return anchors[idxs].view(num_blocks, _BLOCK, 4).transpose(1, 2).contiguous().transpose(1, 2)


def _touching(blocks: Tensor, boxes: Tensor) -> Tensor:
    """Return which of the ground truths [G, 4] overlap the hull of which block, [B, G] bool."""
    x1, y1, _, _ = blocks.amin(dim=1).unsqueeze(1).unbind(2)  # [B, 1]
    _, _, x2, y2 = blocks.amax(dim=1).unsqueeze(1).unbind(2)
    gt_x1, gt_y1, gt_x2, gt_y2 = boxes.unbind(1)  # [G]
    return (x1 < gt_x2) & (gt_x1 < x2) & (y1 < gt_y2) & (gt_y1 < y2)


def _best_of_pairs(blocks: Tensor, boxes: Tensor, block_idxs: Tensor, gt_idxs: Tensor) -> Tensor:
    """Return the highest IoU of each pair of a block and a ground truth, [P]; the blocks are in order."""
    num_of_block = torch.bincount(block_idxs, minlength=len(blocks)).tolist()
    best = [
        pairwise_iou(boxes[part], block).amax(dim=1)
        for block, rows in zip(blocks, gt_idxs.split(num_of_block), strict=True)
        for part in rows.split(max(1, _MAX_PAIRS // _BLOCK))
    ]
    return torch.cat(best)


def _pairwise_ioa(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return the intersection over the anchor's area, [..., M, R]."""
    return pairwise_intersection(gt_boxes, anchors) / box_area(anchors).unsqueeze(-2)


def _mark_candidates(
    is_candidate: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor],
    blocks: Tensor,
    boxes: Tensor,
    block_idxs: Tensor,
    gt_idxs: Tensor,
    limits: Tensor,
) -> None:
    """Mark the anchors whose overlap with a ground truth of their image reaches its limit.

    Args:
        is_candidate: [N, R] bool, to be set.
        overlap: what to compare with the limit.
        blocks: [B, S, 4] anchors.
        boxes: [G, 4] ground truths.
        block_idxs: [P] blocks to search ...
        gt_idxs: [P] ... for anchors of these ground truths.
        limits: [G] lowest overlap with each ground truth.
    """
    num_images, num_anchors = is_candidate.shape
    num_gt = len(boxes) // num_images
    parts = (idxs.split(max(1, _MAX_PAIRS // _BLOCK)) for idxs in (block_idxs, gt_idxs))
    for block_part, gt_part in zip(*parts, strict=True):
        overlaps = overlap(boxes[gt_part].unsqueeze(1), blocks[block_part]).squeeze(1)  # [p, S]
        rows, columns = (overlaps >= limits[gt_part].unsqueeze(1)).nonzero().unbind(1)
        # The last block is filled up with copies of the last anchor.
        anchor_idxs = (block_part[rows] * _BLOCK + columns).clamp_(max=num_anchors - 1)
        is_candidate[gt_part[rows] // num_gt, anchor_idxs] = True
