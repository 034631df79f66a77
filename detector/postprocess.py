"""From raw outputs to detections in original pixels.

Letters: N images, L levels, R anchors, K classes, C candidates, D detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from detector.config import EvalConfig
from detector.ops.box_coding import decode_boxes
from detector.ops.boxes import clip_boxes
from detector.ops.precision import at_least_float32
from detector.structures import Activation, Detections, HeadOutputs, Size


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best (anchor, class) pairs of each image and level, before thresholds and NMS.

    Attributes:
        scores: [N, C] in [0, 1].
        labels: [N, C] int64.
        boxes: [N, C, 4] xyxy pixels of the network's input, not clipped.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor

    def to(self, device: torch.device | str) -> "Candidates":
        """Return the candidates on ``device``."""
        return Candidates(self.scores.to(device), self.labels.to(device), self.boxes.to(device))


class Postprocess:
    """:func:`postprocess` with its settings, whole or in its two parts.

    The first part never makes the host wait for a GPU. The second does, by nature: how many boxes pass the threshold
    and NMS decides the size of the results. On candidates that have been copied to the host it needs no GPU.

    Args:
        score_thresh: see :func:`postprocess`, like the others.
        topk_per_level: likewise.
        nms_thresh: likewise.
        max_detections: likewise.
        activation: likewise.
    """

    def __init__(
        self,
        *,
        score_thresh: float = 0.05,
        topk_per_level: int = 1000,
        nms_thresh: float = 0.5,
        max_detections: int = 100,
        activation: Activation = "sigmoid",
    ) -> None:
        self.score_thresh = score_thresh
        self.topk_per_level = topk_per_level
        self.nms_thresh = nms_thresh
        self.max_detections = max_detections
        self.activation = activation

    def __call__(
        self, outputs: HeadOutputs, anchors: Tensor, sizes: Sequence[Size], original_sizes: Sequence[Size]
    ) -> list[Detections]:
        """Return the detections of N images, on the device of the outputs."""
        return self.detect(self.select(outputs, anchors), sizes, original_sizes)

    @torch.no_grad()
    def select(self, outputs: HeadOutputs, anchors: Tensor) -> Candidates:
        """Return the candidates of N images, on their device."""
        levels = [
            _top_pairs(cls_logits, bbox_deltas, level_anchors, self.topk_per_level, self.activation)
            for cls_logits, bbox_deltas, level_anchors in zip(
                outputs.cls_logits, outputs.bbox_deltas, anchors.split(outputs.anchors_per_level), strict=True
            )
        ]
        return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))

    @torch.no_grad()
    def detect(self, candidates: Candidates, sizes: Sequence[Size], original_sizes: Sequence[Size]) -> list[Detections]:
        """Return the detections of N images, where the candidates lie."""
        detections = []
        for image_idx, (size, original_size) in enumerate(zip(sizes, original_sizes, strict=True)):
            scores, boxes = candidates.scores[image_idx], clip_boxes(candidates.boxes[image_idx], size)
            # A diverged network gives NaN: such pairs are no detections, and one NaN would spoil the NMS of the others.
            keep = (scores > self.score_thresh) & boxes.isfinite().all(dim=1)
            scores, labels, boxes = scores[keep], candidates.labels[image_idx][keep], boxes[keep]
            kept = nms_per_class(boxes, scores, labels, self.nms_thresh)[: self.max_detections]
            boxes = _to_original_pixels(boxes[kept], size, original_size)
            detections.append(Detections(boxes, scores[kept], labels[kept]))
        return detections


def build_postprocess(config: EvalConfig, *, activation: Activation) -> Postprocess:
    """Return the post-processing with the settings of a configuration; for the activation see :func:`postprocess`."""
    return Postprocess(
        activation=activation,
        score_thresh=config.score_thresh,
        topk_per_level=config.topk_per_level,
        nms_thresh=config.nms_thresh,
        max_detections=config.max_detections,
    )


def postprocess(
    outputs: HeadOutputs,
    anchors: Tensor,
    sizes: Sequence[Size],
    original_sizes: Sequence[Size],
    *,
    score_thresh: float = 0.05,
    topk_per_level: int = 1000,
    nms_thresh: float = 0.5,
    max_detections: int = 100,
    activation: Activation = "sigmoid",
) -> list[Detections]:
    """Turn the outputs of a batch into detections.

    Per level the best ``topk_per_level`` (anchor, class) pairs above ``score_thresh`` are decoded and clipped to the
    image; of all levels together the boxes that overlap a better one of their class are removed and the best
    ``max_detections`` stay (Lin et al. 2017, Sec. 4.1, "Inference"). Scores are computed in float32.

    Args:
        outputs: raw outputs for N images.
        anchors: [R, 4] xyxy pixels of the network's input.
        sizes: N (height, width) that the images fill in the network's input.
        original_sizes: N sizes of the stored images.
        score_thresh: scores must be above this.
        topk_per_level: pairs kept per level before NMS.
        nms_thresh: IoU above which the lower score of two boxes of one class goes.
        max_detections: detections kept per image.
        activation: sigmoid: K logits per anchor, each a score for itself; softmax: K + 1, of which the last one,
            background, takes its share of the probability and is then dropped.

    Returns:
        One ``Detections`` per image, in the pixels of its original size.
    """
    steps = Postprocess(
        score_thresh=score_thresh,
        topk_per_level=topk_per_level,
        nms_thresh=nms_thresh,
        max_detections=max_detections,
        activation=activation,
    )
    return steps(outputs, anchors, sizes, original_sizes)


def nms_per_class(boxes: Tensor, scores: Tensor, labels: Tensor, nms_thresh: float) -> Tensor:
    """Return the rows that survive non-maximum suppression within each class, best score first.

    One call for all classes: each class is moved to a place of its own. The offsets are added in float64, where they
    do not round the boxes' sides (in float32 they flip some decisions).

    Args:
        boxes: [C, 4] xyxy pixels, finite.
        scores: [C].
        labels: [C] int64.
        nms_thresh: IoU above which the lower score goes.

    Returns:
        [D] int64 indices, by falling score.
    """
    if not len(boxes):
        return labels.new_zeros(0)
    exact = boxes.double()
    offsets = labels * (exact.max() - exact.min() + 1)
    kept: Tensor = nms(exact + offsets.unsqueeze(1), scores.double(), nms_thresh)
    return kept


def _top_pairs(
    cls_logits: Tensor, bbox_deltas: Tensor, anchors: Tensor, topk: int, activation: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, labels [N, C] and decoded boxes [N, C, 4] of a level's best (anchor, class) pairs."""
    # A logit rises with its sigmoid, so that only the chosen ones need it; with softmax its neighbours matter too.
    ranked = at_least_float32(cls_logits).softmax(dim=2)[..., :-1] if activation == "softmax" else cls_logits
    num_classes = ranked.shape[2]
    # The best k pairs lie on the k anchors whose best pairs are best: those first, so that few pairs are sorted.
    num_anchors = min(topk, ranked.shape[1])
    anchor_idxs = ranked.amax(dim=2).topk(num_anchors, dim=1, sorted=False).indices  # [N, k]
    pairs = at_least_float32(ranked.gather(1, anchor_idxs.unsqueeze(-1).expand(-1, -1, num_classes))).flatten(1)
    best, pair_idxs = pairs.topk(min(topk, pairs.shape[1]), dim=1)
    scores = best if activation == "softmax" else best.sigmoid()
    anchor_idxs, labels = anchor_idxs.gather(1, pair_idxs // num_classes), pair_idxs % num_classes
    deltas = at_least_float32(bbox_deltas.gather(1, anchor_idxs.unsqueeze(-1).expand(-1, -1, 4)))
    return scores, labels, decode_boxes(deltas, anchors[anchor_idxs])


def _to_original_pixels(boxes: Tensor, size: Size, original_size: Size) -> Tensor:
    """Scale boxes from the resized image to the stored one; each side by its own exact ratio."""
    (height, width), (original_height, original_width) = size, original_size
    # Multiplied first, so that the resized image's border is exactly the stored one's.
    numerator = boxes.new_tensor([original_width, original_height] * 2)
    return clip_boxes(boxes * numerator / boxes.new_tensor([width, height] * 2), original_size)
