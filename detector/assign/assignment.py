"""Assignment of anchors to ground truth, for a whole batch at once.

Letters: N images, M ground truths (padded), R anchors.
"""

from typing import Literal

import torch
from torch import Tensor

from detector.assign.eager import match_eager
from detector.assign.rules import MatchRules
from detector.assign.sparse import match_sparse
from detector.assign.targets import targets_of_matches
from detector.ops.triton_support import triton_hindrance
from detector.structures import AnchorTargets

Backend = Literal["auto", "sparse", "eager", "triton"]
"""Who computes the overlaps; the targets are the same to the last bit. sparse: only the pairs that can matter, found by
reading values, for a CPU. eager: all pairs, in plain torch operations that never wait for the device. triton: all
pairs, in two kernels. auto: sparse on a CPU, elsewhere triton where it is installed, else eager."""


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
    backend: Backend = "auto",
) -> AnchorTargets:
    """Decide for every anchor whether it is foreground, background or ignored.

    RetinaNet, Sec. 4: (1) an anchor whose best IoU reaches ``fg_iou_thresh`` is foreground of that ground truth, the
    first one on ties; (2) below ``bg_iou_thresh`` it is background, between the two it is ignored. Two additions:
    (3) with ``allow_low_quality_matches`` the anchors that share the best IoU of some ground truth, if above 0, are
    foreground too (of the ground truth that they overlap most, as in torchvision and detectron2); (4) an anchor that
    matches nothing and has at least ``ignore_ioa_thresh`` of its area in one ignore region is ignored.

    The host reads nothing from a GPU. Beside the targets, 16 images with 500 boxes and 400,000 anchors take less than
    1 GB of memory. Another assigner (ATSS, say) needs the same tensors, perhaps the number of anchors of each level
    besides, and only has to return matches [N, R], each a row or ``BACKGROUND`` or ``IGNORE``, as
    :func:`detector.assign.eager.match_eager` does: :func:`detector.assign.targets.targets_of_matches` does the rest.

    Args:
        anchors: [R, 4] xyxy pixels, of positive area.
        gt_boxes: [N, M, 4] xyxy pixels; M may be 0.
        gt_labels: [N, M] int64 in [0, K).
        gt_mask: [N, M] bool, True for objects. Other rows (padding, ignore regions) never match.
        gt_ignore: [N, M] bool, True for ignore regions; None = there are none.
        fg_iou_thresh: IoU in [0, 1] from which an anchor is foreground.
        bg_iou_thresh: IoU in [0, 1] below which an anchor is background.
        allow_low_quality_matches: whether rule (3) applies.
        ignore_ioa_thresh: intersection over the anchor's area in (0, 1] from which rule (4) applies.
        backend: who computes the overlaps.

    Returns:
        Targets for [N, R] anchors. All are ``BACKGROUND`` where an image has no rows.

    Raises:
        ValueError: if ``bg_iou_thresh > fg_iou_thresh`` or ``ignore_ioa_thresh <= 0``, or if ``backend`` is "triton"
            where it cannot be used.
    """
    rules = MatchRules(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches, ignore_ioa_thresh)
    matches = _match(anchors, gt_boxes, gt_mask, gt_ignore, rules, backend)
    return targets_of_matches(matches, gt_boxes, gt_labels, gt_mask)


def _match(
    anchors: Tensor, gt_boxes: Tensor, gt_mask: Tensor, gt_ignore: Tensor | None, rules: MatchRules, backend: Backend
) -> Tensor:
    match _resolve(backend, anchors.device):
        case "sparse":
            return match_sparse(anchors, gt_boxes, gt_mask, gt_ignore, rules)
        case "eager":
            return match_eager(anchors, gt_boxes, gt_mask, gt_ignore, rules)
        case "triton":
            from detector.assign.triton_matching import match_triton  # triton is not installed everywhere

            return match_triton(anchors, gt_boxes, gt_mask, gt_ignore, rules)


def _resolve(backend: Backend, device: torch.device) -> Literal["sparse", "eager", "triton"]:
    if backend == "auto":
        if device.type == "cpu":
            return "sparse"
        return "eager" if triton_hindrance(device) else "triton"
    if backend == "triton" and (hindrance := triton_hindrance(device)):
        raise ValueError(f"the triton backend of the assignment cannot be used: {hindrance}")
    return backend
