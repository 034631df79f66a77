"""Losses and split of a whole validation set.

Letters: N images, M ground truths, L levels, K classes.
"""

from typing import Any

import torch
from torch import Tensor

from detector.criterion.criterion import Criterion
from detector.criterion.normalizer import NormalizerMode
from detector.criterion.result import ClassDetail, Losses, split_numbers
from detector.structures import AnchorTargets, HeadOutputs


class ValidationLosses:
    """Losses of a whole validation set, whatever its batches: sums are kept, and divided once at the end.

    Args:
        criterion: the losses.
        mode: how training normalises; ``ema`` is taken as ``batch`` here, there is no step to average over.
        num_classes: K.
        num_levels: L.
    """

    def __init__(self, criterion: Criterion, mode: NormalizerMode, *, num_classes: int, num_levels: int) -> None:
        self.criterion = criterion
        self.mode = mode
        self.num_classes = num_classes
        self.num_levels = num_levels
        self._sums: Tensor | None = None

    def add(
        self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, gt_labels: Tensor, gt_mask: Tensor
    ) -> None:
        """Add a batch; for the arguments see :meth:`detector.criterion.Criterion.detail`."""
        num_foreground = targets.num_foreground
        per_image = self.mode == "image"
        normalizer = num_foreground.clamp(min=1) if per_image else 1.0
        losses = self.criterion(outputs, targets, anchors, normalizer)
        detail = self.criterion.detail(
            outputs, targets, anchors, normalizer, gt_labels, gt_mask, num_classes=self.num_classes
        )
        divisor = num_foreground.new_tensor(len(num_foreground)) if per_image else num_foreground.sum()
        sums = torch.cat((divisor.double().reshape(1), losses.stack(), detail.stack()))
        self._sums = sums if self._sums is None else self._sums + sums

    @property
    def sums(self) -> Tensor:
        """Flat float64 sums so far, to be added over processes; zeros before the first batch."""
        if self._sums is not None:
            return self._sums
        size = 1 + Losses.stack_size(self.num_levels) + ClassDetail.stack_size(self.num_classes)
        return torch.zeros(size, dtype=torch.float64)

    @staticmethod
    def mean(sums: Tensor) -> dict[str, float]:
        """Return the losses by the names of ``metrics.jsonl`` from (added) sums."""
        total, loss_cls, loss_box, fg, bg = (sums[1:6] / sums[0].clamp(min=1)).tolist()
        return {"loss": total, "loss_cls": loss_cls, "loss_box": loss_box, "loss_cls_fg": fg, "loss_cls_bg": bg}

    def split(self, sums: Tensor) -> dict[str, Any]:
        """Return the imbalance from (added) sums, by the names of the eval rows of ``metrics.jsonl``.

        Numbers, and tuples of numbers for ``level_*`` (finest level first) and ``class_*`` (by label). Losses are
        divided by the normaliser; mean probabilities and the share are NaN where there is nothing to divide by.
        """
        sizes = [1, Losses.stack_size(self.num_levels), ClassDetail.stack_size(self.num_classes)]
        divisor, losses_sums, detail_sums = sums.cpu().split(sizes)
        losses, detail = Losses.from_stack(losses_sums), ClassDetail.from_stack(detail_sums, self.num_classes)
        objects = {"num_gt": int(detail.num_gt), "num_unmatched_gt": int(detail.num_unmatched_gt)}
        return split_numbers(losses, detail, divisor=max(1.0, float(divisor))) | objects
