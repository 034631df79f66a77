"""A class loss as the criterion sees it: functions of one level's logits, and what belongs to the choice.

Letters: N images, L levels, Rl anchors of a level, K classes, C logits per anchor: K, or K + 1 with softmax
(background last).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.losses.ohem import hard_example_mask
from detector.losses.split import ClassSums, FocalSums, focal_sums
from detector.structures import Activation


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """One of the class losses with its parameters.

    Attributes:
        per_anchor: cls_logits [N, Rl, C], target_labels [N, Rl] and quality ([N, Rl] in [0, 1], or None where
            ``uses_quality`` is false) to the loss of each anchor [N, Rl].
        background_terms: cls_logits [..., C] to [..., K], what each class adds to the loss of a background anchor; the
            sum over K is its loss. With softmax, whose loss is one term, it is shared out in proportion to the K
            object probabilities.
        probabilities: cls_logits [..., C] to the K object probabilities [..., K] in float32 or better.
        activation: what makes probabilities of logits.
        uses_quality: whether the target is the IoU of the decoded box with its object.
        negatives_per_positive: background anchors kept per foreground anchor of an image, the hardest ones; None: all.
        all_levels: cls_logits, target_labels and divisor, as for :meth:`sums`, to the sums of all levels at once; None:
            there is no such function.
        by_class: cls_logits and target_labels of all levels to the sums by class, in one pass. Where it is None or
            returns None, :func:`detector.criterion.detail.sums_by_class` makes them of the functions above.
    """

    per_anchor: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    background_terms: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    activation: Activation = "sigmoid"
    uses_quality: bool = False
    negatives_per_positive: float | None = None
    all_levels: Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | float], FocalSums] | None = None
    by_class: Callable[[Sequence[Tensor], Sequence[Tensor]], ClassSums | None] | None = None

    def anchor_losses(
        self, cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor], quality: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """Return the loss of every anchor, per level.

        Args:
            cls_logits: L tensors [N, Rl, C].
            target_labels: L tensors [N, Rl].
            quality: L tensors [N, Rl]; None where ``uses_quality`` is false.

        Returns:
            L tensors [N, Rl]. 0 for background anchors that were not selected (the hardest ones of an image are chosen
            from all its levels); what they hold at ignored anchors means nothing.
        """
        qualities = [None] * len(cls_logits) if quality is None else quality
        losses = [
            self.per_anchor(logits, labels, level_quality)
            for logits, labels, level_quality in zip(cls_logits, target_labels, qualities, strict=True)
        ]
        if self.negatives_per_positive is None:
            return losses
        selected = hard_example_mask(
            torch.cat(losses, dim=1).detach(),
            torch.cat(list(target_labels), dim=1),
            negatives_per_positive=self.negatives_per_positive,
        ).split([loss.shape[1] for loss in losses], dim=1)
        return [torch.where(mask, loss, 0.0) for mask, loss in zip(selected, losses, strict=True)]

    def sums(
        self,
        cls_logits: Sequence[Tensor],
        target_labels: Sequence[Tensor],
        quality: Sequence[Tensor] | None,
        *,
        divisor: Tensor | float = 1.0,
    ) -> FocalSums:
        """Return the loss of foreground and background anchors per image and level; see :meth:`anchor_losses`.

        Args:
            cls_logits: L tensors [N, Rl, C].
            target_labels: L tensors [N, Rl].
            quality: L tensors [N, Rl]; None where ``uses_quality`` is false.
            divisor: what the caller is about to divide the sums by, one number or [N, 1]; changes no result, but lets a
                loss make its gradient ready for it.
        """
        if self.all_levels is not None:
            return self.all_levels(cls_logits, target_labels, divisor)
        return focal_sums(self.anchor_losses(cls_logits, target_labels, quality), target_labels)
