"""The numbers of one optimiser step, from the device to the host in a single copy."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detector.criterion import ClassDetail, Losses


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
        num_detail = 0 if self.detail is None else len(self.detail.class_num_gt)
        host = self.stack().cpu()
        num_gt, num_unmatched_gt, normalizer, grad_norm = host[:4].tolist()
        num_levels = len(self.losses.level_loss_cls_fg)
        losses = Losses.from_stack(host[4 : 4 + 5 + 5 * num_levels])
        counts = losses.level_counts.tolist()
        num_foreground, num_background, num_ignored = (sum(level_counts) for level_counts in counts)
        loss_cls_fg, loss_cls_bg = float(losses.loss_cls_fg), float(losses.loss_cls_bg)
        numbers = {
            "loss": float(losses.total),
            "loss_cls": float(losses.loss_cls),
            "loss_box": float(losses.loss_box),
            "loss_cls_fg": loss_cls_fg,
            "loss_cls_bg": loss_cls_bg,
            "fg_share": foreground_share(loss_cls_fg, loss_cls_bg),
            "num_foreground": num_foreground,
            "num_background": num_background,
            "num_ignored": num_ignored,
            "grad_norm": grad_norm,
            "num_gt": int(num_gt),
            "num_unmatched_gt": int(num_unmatched_gt),
            "normalizer": normalizer,
            "level_loss_cls_fg": tuple(losses.level_loss_cls_fg.tolist()),
            "level_loss_cls_bg": tuple(losses.level_loss_cls_bg.tolist()),
            "level_num_foreground": tuple(counts[0]),
            "level_num_background": tuple(counts[1]),
            "level_num_ignored": tuple(counts[2]),
        }
        detail = None if self.detail is None else ClassDetail.from_stack(host[9 + 5 * num_levels :], num_detail)
        return numbers | _class_numbers(detail, num_foreground, num_background)


def foreground_share(loss_cls_fg: float, loss_cls_bg: float) -> float:
    """Return ``fg / (fg + bg)`` of the class loss, in [0, 1]; NaN where the class loss is 0."""
    total = loss_cls_fg + loss_cls_bg
    return loss_cls_fg / total if total != 0.0 else math.nan


def _class_numbers(detail: ClassDetail | None, num_foreground: int, num_background: int) -> dict[str, Any]:
    names = ("class_loss_cls_fg", "class_loss_cls_bg", "class_num_foreground", "class_num_gt")
    if detail is None:
        return dict.fromkeys(names, ()) | dict.fromkeys(("p_foreground", "p_background"), math.nan)
    return {
        "p_foreground": float(detail.sum_p_foreground) / num_foreground if num_foreground else math.nan,
        "p_background": float(detail.sum_p_background) / num_background if num_background else math.nan,
        **{name: tuple(getattr(detail, name).tolist()) for name in names},
    }
