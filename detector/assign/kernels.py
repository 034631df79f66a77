"""Triton kernels of the matching: each program takes a block of anchors of one image through all its ground truths.

No matrix of overlaps is stored: the first kernel leaves the best IoU of each ground truth, the second computes all
overlaps again and applies the rules. Both take the very steps of :mod:`detector.ops.boxes`, so their results agree with
the eager ones to the last bit; therefore the division rounds to nearest (``/`` would not), and the launches forbid to
fuse a multiplication with a subtraction.

Letters: N images, M ground truths (padded), R anchors, B blocks of them.
"""

import triton
import triton.language as tl

from detector.structures import BACKGROUND, IGNORE

_BACKGROUND = tl.constexpr(BACKGROUND)
_IGNORE = tl.constexpr(IGNORE)


@triton.jit
def best_of_gt_kernel(anchors, gt_boxes, gt_mask, best, num_gt, num_anchors, num_blocks, block: tl.constexpr):
    """Write the highest IoU of each object within a block of anchors to ``best`` [N, M, B]; 0 in other rows."""
    block_idx, image = tl.program_id(0), tl.program_id(1)
    x1, y1, x2, y2, _idxs = _load_anchors(anchors, block_idx, num_anchors, block)
    for gt in range(num_gt):
        row = image * num_gt + gt
        highest = 0.0
        if tl.load(gt_mask + row) != 0:
            iou, _ = _overlap(gt_boxes + row * 4, x1, y1, x2, y2)
            highest = tl.max(iou, axis=0)
        tl.store(best + row * num_blocks + block_idx, highest)


@triton.jit
def match_kernel(
    anchors,
    gt_boxes,
    gt_mask,
    gt_ignore,
    best_of_gt,
    matches,
    num_gt,
    num_anchors,
    fg_iou_thresh,
    bg_iou_thresh,
    ignore_ioa_thresh,
    low_quality: tl.constexpr,
    has_ignore: tl.constexpr,
    block: tl.constexpr,
):
    """Write the match of each anchor to ``matches`` [N, R]: the row of its object, BACKGROUND or IGNORE."""
    block_idx, image = tl.program_id(0), tl.program_id(1)
    x1, y1, x2, y2, idxs = _load_anchors(anchors, block_idx, num_anchors, block)
    best_iou = tl.full([block], -1.0, tl.float32)
    best_idxs = tl.zeros([block], tl.int32)
    forced = tl.zeros([block], tl.int32)
    in_ignore = tl.zeros([block], tl.int32)
    for gt in range(num_gt):
        row = image * num_gt + gt
        if tl.load(gt_mask + row) != 0:
            iou, _ = _overlap(gt_boxes + row * 4, x1, y1, x2, y2)
            best_idxs = tl.where(iou > best_iou, gt, best_idxs)
            best_iou = tl.maximum(iou, best_iou)
            if low_quality:
                best = tl.load(best_of_gt + row)
                if best > 0:
                    forced = tl.where(iou == best, 1, forced)
        if has_ignore:  # noqa: SIM102 - known to the compiler, unlike the other condition
            if tl.load(gt_ignore + row) != 0:
                _, ioa = _overlap(gt_boxes + row * 4, x1, y1, x2, y2)
                in_ignore = tl.where(ioa >= ignore_ioa_thresh, 1, in_ignore)
    ignored = (best_iou >= bg_iou_thresh) | (in_ignore != 0)
    match = tl.where(ignored, _IGNORE, _BACKGROUND)
    match = tl.where((best_iou >= fg_iou_thresh) | (forced != 0), best_idxs, match)
    tl.store(matches + image.to(tl.int64) * num_anchors + idxs, match.to(tl.int64), mask=idxs < num_anchors)


@triton.jit
def _load_anchors(anchors, block_idx, num_anchors, block: tl.constexpr):
    """Load the columns of a block of anchors, the last anchor in place of those behind it, and their indices."""
    idxs = block_idx * block + tl.arange(0, block)
    rows = anchors + tl.minimum(idxs, num_anchors - 1) * 4
    return tl.load(rows), tl.load(rows + 1), tl.load(rows + 2), tl.load(rows + 3), idxs


@triton.jit
def _overlap(gt_box, x1, y1, x2, y2):
    """Return the IoU of a ground truth with each anchor, and their intersection over the anchor's area."""
    gt_x1, gt_y1, gt_x2, gt_y2 = tl.load(gt_box), tl.load(gt_box + 1), tl.load(gt_box + 2), tl.load(gt_box + 3)
    width = tl.maximum(tl.minimum(gt_x2, x2) - tl.maximum(gt_x1, x1), 0.0)
    height = tl.maximum(tl.minimum(gt_y2, y2) - tl.maximum(gt_y1, y1), 0.0)
    intersection = width * height
    area = (x2 - x1) * (y2 - y1)
    union = (gt_x2 - gt_x1) * (gt_y2 - gt_y1) + area - intersection
    return tl.div_rn(intersection, union), tl.div_rn(intersection, area)
