"""A batch with everything that real batches have, and its losses by loops in plain Python."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from detector.assign import assign_anchors
from detector.config import ClsLossConfig
from detector.criterion import Criterion, NormalizerMode, build_class_loss
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs
from tests.helpers import random_boxes

NUM_CLASSES = 3
ANCHORS_PER_LEVEL = (40, 20, 10)
MODES: list[NormalizerMode] = ["batch", "image", "ema"]
UNTOUCHED = [4000.0, 4000.0, 4010.0, 4010.0]

CLASS_LOSSES = {
    "sigmoid_focal": ClsLossConfig(name="sigmoid_focal", alpha=0.3, gamma=2.0),
    "sigmoid_focal without alpha": ClsLossConfig(name="sigmoid_focal", alpha=None, gamma=0.5),
    "sigmoid_focal per class": ClsLossConfig(name="sigmoid_focal", alpha=(0.2, 0.5, 0.9), gamma=1.0),
    "sigmoid_ce": ClsLossConfig(name="sigmoid_ce", alpha=None),
    "sigmoid_ce balanced": ClsLossConfig(name="sigmoid_ce", alpha=0.75),
    "sigmoid_ce per class": ClsLossConfig(name="sigmoid_ce", alpha=(0.2, 0.5, 0.9)),
    "focal_star": ClsLossConfig(name="focal_star", alpha=0.4, gamma=3.0, beta=0.5),
    "focal_star per class": ClsLossConfig(name="focal_star", alpha=(0.2, 0.5, 0.9)),
    "quality_focal": ClsLossConfig(name="quality_focal", gamma=1.5),
    "varifocal": ClsLossConfig(name="varifocal", alpha=0.75, gamma=1.5),
    "ohem": ClsLossConfig(name="ohem", negatives_per_positive=2.5),
    "softmax_ce": ClsLossConfig(name="softmax_ce", alpha=None),
    "softmax_ce pair": ClsLossConfig(name="softmax_ce", alpha=0.3),
    "softmax_ce per class": ClsLossConfig(name="softmax_ce", alpha=(0.2, 3.0, 1.0, 0.5)),
    "softmax_focal": ClsLossConfig(name="softmax_focal", alpha=0.3, gamma=2.0),
    "softmax_focal without alpha": ClsLossConfig(name="softmax_focal", alpha=None, gamma=0.5),
    "softmax_focal per class": ClsLossConfig(name="softmax_focal", alpha=(0.2, 3.0, 1.0, 0.5), gamma=1.0),
}
"""Every class loss of the configuration, in every form of its alpha."""

every_class_loss = pytest.mark.parametrize("config", CLASS_LOSSES.values(), ids=CLASS_LOSSES.keys())

EXACT: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-12}
"""The outputs are float64; boxes, and so the quality, float32."""


def build(config: ClsLossConfig) -> Criterion:
    return Criterion(class_loss=build_class_loss(config, NUM_CLASSES))


def f64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def num_logits(config: ClsLossConfig) -> int:
    return NUM_CLASSES + (config.activation == "softmax")


def make_case(logits: int = NUM_CLASSES) -> tuple[HeadOutputs, AnchorTargets, Tensor]:
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
    gt_labels, gt_mask = make_ground_truth()
    gt_ignore = torch.zeros(4, 3, dtype=torch.bool)
    gt_ignore[1, 1] = True
    targets = assign_anchors(anchors, gt_boxes, gt_labels, gt_mask, gt_ignore)
    outputs = HeadOutputs(
        tuple(random_leaf(4, n, logits, generator=generator) for n in ANCHORS_PER_LEVEL),
        tuple(random_leaf(4, n, 4, generator=generator) for n in ANCHORS_PER_LEVEL),
    )
    return outputs, targets, anchors


def make_ground_truth() -> tuple[Tensor, Tensor]:
    """Labels and mask of the case, [4, 3] each; the label of the ignore region and of padding are classes too."""
    gt_labels = torch.tensor([[2, 0, 2], [1, 1, 0], [0, 0, 0], [1, 2, 0]])
    return gt_labels, torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)


def random_leaf(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def leaves(outputs: HeadOutputs) -> list[Tensor]:
    return [*outputs.cls_logits, *outputs.bbox_deltas]


def map_outputs(outputs: HeadOutputs, function: Any) -> HeadOutputs:
    return HeadOutputs(tuple(map(function, outputs.cls_logits)), tuple(map(function, outputs.bbox_deltas)))


def select_images(outputs: HeadOutputs, targets: AnchorTargets, rows: slice) -> tuple[HeadOutputs, AnchorTargets]:
    fields = (targets.target_labels, targets.matched_idxs, targets.matched_boxes, targets.num_unmatched_gt)
    return map_outputs(outputs, lambda tensor: tensor[rows]), AnchorTargets(*(field[rows] for field in fields))


@dataclass
class AnchorByHand:
    """One anchor: where it is, its class loss, and for background what each class adds to it."""

    image: int
    level: int
    label: int
    loss: float
    terms: list[float]
    probabilities: list[float]
    """Of the K classes."""


def anchors_by_hand(
    config: ClsLossConfig, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor
) -> list[AnchorByHand]:
    """All anchors of all images."""
    levels = [level for level, count in enumerate(ANCHORS_PER_LEVEL) for _ in range(count)]
    all_logits, all_deltas = (torch.cat(levels, dim=1).tolist() for levels in (outputs.cls_logits, outputs.bbox_deltas))
    result = []
    for image, labels in enumerate(targets.target_labels.tolist()):
        of_image = []
        for r, label in enumerate(labels):
            logits, quality = all_logits[image][r], 0.0
            if label >= 0:
                box = decode(all_deltas[image][r], anchors[r].tolist())
                quality = iou(box, targets.matched_boxes[image, r].tolist())
            terms, probabilities = terms_by_hand(config, logits, label, quality)
            of_image.append(AnchorByHand(image, levels[r], label, sum(terms), terms, probabilities))
        if config.name == "ohem":
            background = [anchor for anchor in of_image if anchor.label == BACKGROUND]
            num_kept = math.floor(config.negatives_per_positive * sum(label >= 0 for label in labels))
            for anchor in sorted(background, key=lambda anchor: -anchor.loss)[num_kept:]:
                anchor.loss, anchor.terms = 0.0, [0.0] * NUM_CLASSES
        result += of_image
    return result


def terms_by_hand(
    config: ClsLossConfig, logits: list[float], label: int, quality: float
) -> tuple[list[float], list[float]]:
    """What each class adds to the anchor's loss (softmax: the shares of the one term), and the probabilities."""
    gamma = config.gamma
    if config.activation == "softmax":
        total = sum(math.exp(x) for x in logits)
        p = [math.exp(x) / total for x in logits]
        target = label if label >= 0 else NUM_CLASSES
        alpha = config.alpha
        if isinstance(alpha, float):
            alpha = (*[alpha] * NUM_CLASSES, 1 - alpha)
        loss = -(1.0 if alpha is None else alpha[target]) * math.log(p[target])
        loss *= (1 - p[target]) ** gamma if config.name == "softmax_focal" else 1
        return [loss * p_k / sum(p[:-1]) for p_k in p[:-1]], p[:-1]
    terms, probabilities = [], []
    for k, x in enumerate(logits):
        p = 1 / (1 + math.exp(-x))
        p_t, x_t = (p, x) if k == label else (1 - p, -x)
        alpha_k = config.alpha[k] if isinstance(config.alpha, tuple) else config.alpha
        alpha_t = 1.0 if alpha_k is None else alpha_k if k == label else 1 - alpha_k
        y = quality if k == label else 0.0
        bce = -y * math.log(p) - (1 - y) * math.log(1 - p)
        match config.name:
            case "sigmoid_focal":
                terms.append(-alpha_t * (1 - p_t) ** gamma * math.log(p_t))
            case "sigmoid_ce":
                terms.append(-alpha_t * math.log(p_t))
            case "focal_star":
                terms.append(-alpha_t * math.log(1 / (1 + math.exp(-gamma * x_t - config.beta))) / gamma)
            case "quality_focal":
                terms.append(abs(y - p) ** gamma * bce)
            case "varifocal":
                assert alpha_k is not None
                terms.append(y * bce if y > 0 else -alpha_k * p**gamma * math.log(1 - p))
            case "ohem":
                terms.append(-math.log(p_t))
            case _:
                raise AssertionError(config.name)
        probabilities.append(p)
    return terms, probabilities


def l1_by_hand(outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, beta: float = 0.0) -> list[float]:
    """Smooth L1 box loss of every image."""
    all_deltas = torch.cat(outputs.bbox_deltas, dim=1).tolist()
    sums = [0.0] * len(all_deltas)
    for i, r in targets.foreground.nonzero().tolist():
        wanted = encode(targets.matched_boxes[i, r].tolist(), anchors[r].tolist())
        sums[i] += sum(smooth_l1(d - t, beta) for d, t in zip(all_deltas[i][r], wanted, strict=True))
    return sums


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


def decode(deltas: list[float], anchor: list[float]) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    cx, cy = (anchor[0] + anchor[2]) / 2 + deltas[0] * width, (anchor[1] + anchor[3]) / 2 + deltas[1] * height
    w, h = width * math.exp(min(deltas[2], math.log(62.5))), height * math.exp(min(deltas[3], math.log(62.5)))
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def iou(a: list[float], b: list[float]) -> float:
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def normalizer_by_hand(mode: NormalizerMode, num_foreground: list[int]) -> list[float]:
    num_images, total = len(num_foreground), sum(num_foreground)
    match mode:
        case "batch":
            return [float(max(1, total))] * num_images
        case "image":
            return [float(max(1, count) * num_images) for count in num_foreground]
        case "ema":
            return [(0.9 * 50 + 0.1 * total / num_images) * num_images] * num_images
