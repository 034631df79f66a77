"""The numbers of one optimiser step, from the device to the host in a single copy."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detector.criterion import ClassDetail, Losses
from detector.criterion.result import split_numbers


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the loop knows of one step, as tensors on one device.

    All are those of the whole step: after normalisation, summed over micro-batches and processes.

    Attributes:
        losses: losses, and their split and the anchors by pyramid level.
        num_gt: 0-dim, objects.
        num_unmatched_gt: 0-dim, objects that no anchor was assigned to.
        normalizer: 0-dim, what the losses were divided by, mean over the images.
        grad_norm: 0-dim, L2 norm of all gradients, before clipping.
        detail: the split by class; None where the step was not asked for it.
    """

    losses: Losses
    num_gt: Tensor
    num_unmatched_gt: Tensor
    normalizer: Tensor
    grad_norm: Tensor
    detail: ClassDetail | None = None

    def stack(self) -> Tensor:
        """Return all numbers as one flat float64 tensor, detached, on their device; it does not synchronise.

        float64 holds every count exactly (float32 would lose the last digits of counts above 2**24).
        """
        scalars = (self.num_gt, self.num_unmatched_gt, self.normalizer, self.grad_norm)
        parts = [value.detach().double().reshape(1) for value in scalars]
        details = [] if self.detail is None else [self.detail.stack()]
        return torch.cat([*parts, self.losses.stack(), *details])

    def to_host(self) -> dict[str, Any]:
        """Return the numbers of a train row by their names; the device is read (and waited for) once.

        Numbers, and tuples of numbers for ``level_*`` and ``class_*``. Without detail those by class are empty and the
        mean probabilities NaN.
        """
        num_levels = len(self.losses.level_loss_cls_fg)
        num_classes = 0 if self.detail is None else len(self.detail.class_num_gt)
        detail_size = 0 if self.detail is None else ClassDetail.stack_size(num_classes)
        scalars, losses_part, detail_part = self.stack().cpu().split([4, Losses.stack_size(num_levels), detail_size])
        num_gt, num_unmatched_gt, normalizer, grad_norm = scalars.tolist()
        losses = Losses.from_stack(losses_part)
        detail = None if self.detail is None else ClassDetail.from_stack(detail_part, num_classes)
        num_foreground, num_background, num_ignored = losses.level_counts.sum(dim=1).tolist()
        numbers = {
            "loss": float(losses.total),
            "loss_cls": float(losses.loss_cls),
            "loss_box": float(losses.loss_box),
            "loss_cls_fg": float(losses.loss_cls_fg),
            "loss_cls_bg": float(losses.loss_cls_bg),
            "num_foreground": num_foreground,
            "num_background": num_background,
            "num_ignored": num_ignored,
            "grad_norm": grad_norm,
            "num_gt": int(num_gt),
            "num_unmatched_gt": int(num_unmatched_gt),
            "normalizer": normalizer,
        }
        return numbers | split_numbers(losses, detail)
