"""A batch with everything that real batches have, and its losses by a loop in plain Python."""

import math
from typing import Any

import torch
from torch import Tensor

from detector.assign import assign_anchors
from detector.criterion import NormalizerMode
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs
from tests.helpers import random_boxes

NUM_CLASSES = 3
ANCHORS_PER_LEVEL = (40, 20, 10)
MODES: list[NormalizerMode] = ["batch", "image", "ema"]
UNTOUCHED = [4000.0, 4000.0, 4010.0, 4010.0]


def make_case() -> tuple[HeadOutputs, AnchorTargets, Tensor]:
    """Float64 outputs and targets of four images, with everything that real batches have.

    Image 0: objects. Image 1: an object and an ignore region. Image 2: nothing. Image 3: an object that no anchor
    touches, and another one. All padded to three rows.
    """
    generator = torch.Generator().manual_seed(0)
    anchors = random_boxes(sum(ANCHORS_PER_LEVEL), generator)
    gt_boxes = torch.zeros(4, 3, 4)
    gt_boxes[0] = random_boxes(3, generator)
    gt_boxes[1, 0] = random_boxes(1, generator)[0]
    gt_boxes[1, 1] = torch.tensor([0.0, 0.0, 80.0, 80.0])
    gt_boxes[3, 0] = torch.tensor(UNTOUCHED)
    gt_boxes[3, 1] = random_boxes(1, generator)[0]
    gt_labels = torch.randint(0, NUM_CLASSES, (4, 3), generator=generator)
    gt_mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    gt_ignore = torch.zeros(4, 3, dtype=torch.bool)
    gt_ignore[1, 1] = True
    targets = assign_anchors(anchors, gt_boxes, gt_labels, gt_mask, gt_ignore)
    outputs = HeadOutputs(
        tuple(random_leaf(4, n, NUM_CLASSES, generator=generator) for n in ANCHORS_PER_LEVEL),
        tuple(random_leaf(4, n, 4, generator=generator) for n in ANCHORS_PER_LEVEL),
    )
    return outputs, targets, anchors


def random_leaf(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def leaves(outputs: HeadOutputs) -> list[Tensor]:
    return [*outputs.cls_logits, *outputs.bbox_deltas]


def map_outputs(outputs: HeadOutputs, function: Any) -> HeadOutputs:
    return HeadOutputs(tuple(map(function, outputs.cls_logits)), tuple(map(function, outputs.bbox_deltas)))


def select_images(outputs: HeadOutputs, targets: AnchorTargets, rows: slice) -> tuple[HeadOutputs, AnchorTargets]:
    fields = (targets.target_labels, targets.matched_idxs, targets.matched_boxes, targets.num_unmatched_gt)
    return map_outputs(outputs, lambda tensor: tensor[rows]), AnchorTargets(*(field[rows] for field in fields))


def sums_by_hand(
    outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, *, alpha: float, gamma: float, beta: float
) -> list[tuple[float, float, float, int]]:
    """Of every image: class loss of foreground and background, smooth L1 box loss, and foreground anchors."""
    all_logits, all_deltas = (torch.cat(levels, dim=1).tolist() for levels in (outputs.cls_logits, outputs.bbox_deltas))
    result = []
    for i, image_labels in enumerate(targets.target_labels.tolist()):
        fg = bg = box = 0.0
        for logits, deltas, label, anchor, matched in zip(
            all_logits[i], all_deltas[i], image_labels, anchors.tolist(), targets.matched_boxes[i].tolist(), strict=True
        ):
            loss = 0.0
            for k, x in enumerate(logits):
                p_t = 1 / (1 + math.exp(-x if k == label else x))
                loss -= (alpha if k == label else 1 - alpha) * (1 - p_t) ** gamma * math.log(p_t)
            if label >= 0:
                fg += loss
                box += sum(smooth_l1(d - t, beta) for d, t in zip(deltas, encode(matched, anchor), strict=True))
            elif label == BACKGROUND:
                bg += loss
        result.append((fg, bg, box, sum(label >= 0 for label in image_labels)))
    return result


def smooth_l1(difference: float, beta: float) -> float:
    d = abs(difference)
    return 0.5 * d * d / beta if d < beta else d - 0.5 * beta


def encode(box: list[float], anchor: list[float]) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return [
        (box[0] + box[2] - anchor[0] - anchor[2]) / 2 / width,
        (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / height,
        math.log((box[2] - box[0]) / width),
        math.log((box[3] - box[1]) / height),
    ]


def normalizer_by_hand(mode: NormalizerMode, num_foreground: list[int]) -> list[float]:
    num_images, total = len(num_foreground), sum(num_foreground)
    match mode:
        case "batch":
            return [float(max(1, total))] * num_images
        case "image":
            return [float(max(1, count) * num_images) for count in num_foreground]
        case "ema":
            return [(0.9 * 50 + 0.1 * total / num_images) * num_images] * num_images
