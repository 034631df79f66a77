"""From raw outputs and targets to the losses, and the split of the class loss into foreground and background.

The only place where losses are normalised. Letters: N images, L levels, R anchors, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from detector.config import LossConfig
from detector.losses.giou import giou_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss_per_anchor
from detector.losses.smooth_l1 import smooth_l1_loss
from detector.ops.box_coding import decode_boxes, encode_boxes
from detector.ops.precision import at_least_float32
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs

NormalizerMode = Literal["batch", "image", "ema"]


def build_criterion(config: LossConfig) -> "Criterion":
    """Return the criterion that a configuration describes."""
    return Criterion(
        alpha=config.cls.alpha,
        gamma=config.cls.gamma,
        box_loss=config.box.name,
        box_beta=config.box.beta,
        box_weight=config.box.weight,
    )


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of some images, as 0-dim tensors, already divided by the normaliser.

    Attributes:
        total: loss_cls + loss_box; the one to call ``backward`` on.
        loss_cls: class loss, loss_cls_fg + loss_cls_bg.
        loss_box: box loss times its weight.
        loss_cls_fg: part of the class loss from foreground anchors (all their K terms).
        loss_cls_bg: part of the class loss from background anchors.
    """

    total: Tensor
    loss_cls: Tensor
    loss_box: Tensor
    loss_cls_fg: Tensor
    loss_cls_bg: Tensor

    def detach(self) -> "Losses":
        """Return the same numbers without their graph."""
        return Losses(
            self.total.detach(),
            self.loss_cls.detach(),
            self.loss_box.detach(),
            self.loss_cls_fg.detach(),
            self.loss_cls_bg.detach(),
        )

    def __add__(self, other: "Losses") -> "Losses":
        """Return the sum: losses of the micro-batches of one step add up."""
        return Losses(
            self.total + other.total,
            self.loss_cls + other.loss_cls,
            self.loss_box + other.loss_box,
            self.loss_cls_fg + other.loss_cls_fg,
            self.loss_cls_bg + other.loss_cls_bg,
        )


class Criterion:
    """Focal loss over all anchors plus box loss over foreground anchors, each divided by the normaliser.

    Args:
        alpha: focal loss weight of the object terms; None = unweighted.
        gamma: focusing exponent.
        box_loss: "smooth_l1" on encoded offsets or "giou" on decoded boxes.
        box_beta: beta of smooth L1; 0 = L1.
        box_weight: factor on the box loss.
    """

    def __init__(
        self,
        *,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        box_loss: Literal["smooth_l1", "giou"] = "smooth_l1",
        box_beta: float = 0.0,
        box_weight: float = 1.0,
    ) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.box_loss = box_loss
        self.box_beta = box_beta
        self.box_weight = box_weight

    def __call__(
        self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, normalizer: Tensor | float
    ) -> Losses:
        """Return the losses of a batch.

        Args:
            outputs: raw outputs of the network; any floating type, computed in float32.
            targets: of :func:`detector.assign.assign_anchors`.
            anchors: [R, 4] xyxy pixels.
            normalizer: scalar, or [N] with one number per image, that the images' sums are divided by; see
                :class:`LossNormalizer`.

        Returns:
            The losses. An image without objects still has background loss and gradient.
        """
        fg_sums, bg_sums = self._class_sums(outputs, targets)  # [N]
        box_sums = self._box_sums(outputs, targets, anchors)  # [N]
        loss_cls_fg = (fg_sums / normalizer).sum()
        loss_cls_bg = (bg_sums / normalizer).sum()
        loss_box = (box_sums / normalizer).sum() * self.box_weight
        loss_cls = loss_cls_fg + loss_cls_bg
        return Losses(loss_cls + loss_box, loss_cls, loss_box, loss_cls_fg, loss_cls_bg)

    def _class_sums(self, outputs: HeadOutputs, targets: AnchorTargets) -> tuple[Tensor, Tensor]:
        """Return the class loss of foreground and background anchors per image, each [N]."""
        fg_sums, bg_sums = [], []
        levels = targets.target_labels.split(outputs.anchors_per_level, dim=1)
        for cls_logits, labels in zip(outputs.cls_logits, levels, strict=True):
            anchor_loss = sigmoid_focal_loss_per_anchor(cls_logits, labels, alpha=self.alpha, gamma=self.gamma)
            fg_sums.append(torch.where(labels >= 0, anchor_loss, 0.0).sum(dim=1))
            bg_sums.append(torch.where(labels == BACKGROUND, anchor_loss, 0.0).sum(dim=1))
        return torch.stack(fg_sums).sum(dim=0), torch.stack(bg_sums).sum(dim=0)

    def _box_sums(self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor) -> Tensor:
        """Return the box loss of foreground anchors per image, [N]."""
        bbox_deltas = at_least_float32(torch.cat(outputs.bbox_deltas, dim=1))  # [N, R, 4]
        foreground = targets.foreground
        # Offsets of other anchors are replaced before the loss: whatever they are (even inf), their gradient is 0.
        bbox_deltas = torch.where(foreground.unsqueeze(-1), bbox_deltas, 0.0)
        matched_boxes = torch.where(foreground.unsqueeze(-1), targets.matched_boxes, anchors)
        match self.box_loss:
            case "smooth_l1":
                loss = smooth_l1_loss(bbox_deltas, encode_boxes(matched_boxes, anchors), beta=self.box_beta)
            case "giou":
                loss = giou_loss(decode_boxes(bbox_deltas, anchors), matched_boxes)
        return torch.where(foreground, loss, 0.0).sum(dim=1)


class LossNormalizer:
    """What the losses of a step are divided by, from the foreground anchors of all its images.

    - ``batch``: foreground anchors of the whole step, at least 1.
    - ``image``: number of images x max(1, the image's own foreground anchors), i.e. the mean over images of
      sum / foreground (Lin et al. 2017, Sec. 4.1; torchvision).
    - ``ema``: running mean (momentum 0.9, start 50 per image) of the foreground anchors per image x images; detectron2
      does so per GPU and loses the state on resume, here it is part of the checkpoint.

    Args:
        mode: one of the three.
    """

    MOMENTUM = 0.9
    START = 50.0

    def __init__(self, mode: NormalizerMode = "batch") -> None:
        self.mode = mode
        self.mean_foreground = torch.tensor(self.START)

    def __call__(self, num_foreground: Tensor, total_foreground: Tensor, num_images: int) -> Tensor:
        """Return the normaliser of a step.

        Args:
            num_foreground: [N] foreground anchors of the images at hand.
            total_foreground: scalar, foreground anchors of all images of the step, over all processes and
                micro-batches.
            num_images: images of the step, likewise.

        Returns:
            Scalar, or [N] for ``image``; float32, at least 1.
        """
        match self.mode:
            case "batch":
                return total_foreground.clamp(min=1).float()
            case "image":
                return num_foreground.clamp(min=1).float() * num_images
            case "ema":
                return (self._next_mean(total_foreground, num_images) * num_images).clamp(min=1)

    def update(self, total_foreground: Tensor, num_images: int, ok: Tensor) -> None:
        """Keep the running mean of this step if ``ok`` (0-dim bool on the device) holds; without reading it."""
        if self.mode == "ema":
            mean = self._next_mean(total_foreground, num_images)
            self.mean_foreground = torch.where(ok, mean, self.mean_foreground.to(mean.device))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that a checkpoint keeps."""
        return {"mean_foreground": self.mean_foreground.cpu()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the state of a checkpoint."""
        self.mean_foreground = state["mean_foreground"].clone()

    def _next_mean(self, total_foreground: Tensor, num_images: int) -> Tensor:
        mean = self.mean_foreground.to(total_foreground.device)
        return self.MOMENTUM * mean + (1 - self.MOMENTUM) * total_foreground.float() / num_images


class ValidationLosses:
    """Losses of a whole validation set, whatever its batches: sums are kept, and divided once at the end.

    Args:
        criterion: the losses.
        mode: how training normalises; ``ema`` is taken as ``batch`` here, there is no step to average over.
    """

    def __init__(self, criterion: Criterion, mode: NormalizerMode) -> None:
        self.criterion = criterion
        self.mode = mode
        self._sums: Tensor | None = None  # [6]: total, cls, box, fg, bg, divisor

    def add(self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor) -> None:
        """Add a batch."""
        num_foreground = targets.num_foreground
        per_image = self.mode == "image"
        normalizer = num_foreground.clamp(min=1) if per_image else 1.0
        losses = self.criterion(outputs, targets, anchors, normalizer)
        divisor = num_foreground.new_tensor(len(num_foreground)) if per_image else num_foreground.sum()
        parts = (losses.total, losses.loss_cls, losses.loss_box, losses.loss_cls_fg, losses.loss_cls_bg, divisor)
        sums = torch.stack([part.double() for part in parts])
        self._sums = sums if self._sums is None else self._sums + sums

    @property
    def sums(self) -> Tensor:
        """[6] float64 sums so far, to be added over processes; zeros before the first batch."""
        return torch.zeros(6, dtype=torch.float64) if self._sums is None else self._sums

    @staticmethod
    def mean(sums: Tensor) -> dict[str, float]:
        """Return the losses by the names of ``metrics.jsonl`` from (added) sums."""
        total, loss_cls, loss_box, fg, bg = (sums[:5] / sums[5].clamp(min=1)).tolist()
        return {"loss": total, "loss_cls": loss_cls, "loss_box": loss_box, "loss_cls_fg": fg, "loss_cls_bg": bg}
