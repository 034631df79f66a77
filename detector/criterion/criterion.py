"""The criterion: class loss over all anchors and box loss over foreground anchors, each divided by the normaliser.

Letters: N images, L levels, R anchors, Rl anchors of a level, K classes, M ground truths of an image.
"""

import torch
from torch import Tensor

from detector.criterion.box_loss import BoxLossName, box_losses, box_quality
from detector.criterion.class_loss import ClassLoss
from detector.criterion.class_losses import sigmoid_focal_class_loss
from detector.criterion.detail import class_detail
from detector.criterion.result import ClassDetail, Losses
from detector.ops.precision import at_least_float32
from detector.structures import AnchorTargets, HeadOutputs


class Criterion:
    """Class loss over all anchors plus box loss over foreground anchors, each divided by the normaliser.

    Args:
        class_loss: None = sigmoid focal loss with the paper's alpha and gamma.
        box_loss: "smooth_l1" on encoded offsets, or a loss on decoded boxes.
        box_beta: beta of smooth L1; 0 = L1.
        box_weight: factor on the box loss.
    """

    def __init__(
        self,
        *,
        class_loss: ClassLoss | None = None,
        box_loss: BoxLossName = "smooth_l1",
        box_beta: float = 0.0,
        box_weight: float = 1.0,
    ) -> None:
        self.class_loss = sigmoid_focal_class_loss() if class_loss is None else class_loss
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
                :class:`detector.criterion.LossNormalizer`.

        Returns:
            The losses. An image without objects still has background loss and gradient.
        """
        labels = targets.target_labels.split(outputs.anchors_per_level, dim=1)
        divisor = normalizer.reshape(-1, 1) if isinstance(normalizer, Tensor) else normalizer  # [N, 1] or [1, 1]
        quality = self._quality(outputs, targets, anchors)
        sums = self.class_loss.sums(outputs.cls_logits, labels, quality, divisor=divisor)
        level_fg = (sums.foreground / divisor).sum(dim=0)  # [L]
        level_bg = (sums.background / divisor).sum(dim=0)
        loss_cls_fg, loss_cls_bg = level_fg.sum(), level_bg.sum()
        loss_box = (self._box_sums(outputs, targets, anchors) / normalizer).sum() * self.box_weight
        loss_cls = loss_cls_fg + loss_cls_bg
        return Losses(
            total=loss_cls + loss_box,
            loss_cls=loss_cls,
            loss_box=loss_box,
            loss_cls_fg=loss_cls_fg,
            loss_cls_bg=loss_cls_bg,
            level_loss_cls_fg=level_fg.detach(),
            level_loss_cls_bg=level_bg.detach(),
            level_counts=torch.stack((sums.num_foreground, sums.num_background, sums.num_ignored)).sum(dim=1),
        )

    @torch.no_grad()
    def detail(
        self,
        outputs: HeadOutputs,
        targets: AnchorTargets,
        anchors: Tensor,
        normalizer: Tensor | float,
        gt_labels: Tensor,
        gt_mask: Tensor,
        *,
        num_classes: int,
    ) -> ClassDetail:
        """Return the class loss by class, in more passes over the logits: for log steps and evaluation.

        Args:
            outputs: as for the losses.
            targets: as for the losses.
            anchors: as for the losses.
            normalizer: as for the losses.
            gt_labels: [N, M] int64 labels of the ground truths.
            gt_mask: [N, M] bool, True for objects.
            num_classes: K.

        Returns:
            The detail, without graph; nothing is read from the device.
        """
        return class_detail(
            self.class_loss,
            outputs,
            targets,
            self._quality(outputs, targets, anchors),
            normalizer,
            gt_labels,
            gt_mask,
            num_classes=num_classes,
        )

    @torch.no_grad()
    def _quality(self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor) -> tuple[Tensor, ...] | None:
        """Return the IoU of each foreground anchor's decoded box with its object, 0 elsewhere; per level [N, Rl]."""
        if not self.class_loss.uses_quality:
            return None
        quality = box_quality(*self._foreground_boxes(outputs, targets, anchors), anchors)
        return tuple(torch.where(targets.foreground, quality, 0.0).split(outputs.anchors_per_level, dim=1))

    def _box_sums(self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor) -> Tensor:
        """Return the box loss of foreground anchors per image, [N]."""
        bbox_deltas, matched_boxes = self._foreground_boxes(outputs, targets, anchors)
        loss = box_losses(self.box_loss, bbox_deltas, matched_boxes, anchors, beta=self.box_beta)
        return torch.where(targets.foreground, loss, 0.0).sum(dim=1)

    @staticmethod
    def _foreground_boxes(outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets and matched boxes, [N, R, 4] each; those of other anchors are 0 and the anchors themselves.

        They are replaced before any loss: whatever those offsets are (even inf), their gradient is 0.
        """
        foreground = targets.foreground.unsqueeze(-1)
        bbox_deltas = at_least_float32(torch.cat(outputs.bbox_deltas, dim=1))
        return torch.where(foreground, bbox_deltas, 0.0), torch.where(foreground, targets.matched_boxes, anchors)
