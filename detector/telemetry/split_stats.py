"""The numbers of one optimiser step, from the device to the host in a single copy."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the loop knows of one step, as tensors with one element each, all on one device.

    Losses and counts are those of the whole step: after normalisation, summed over micro-batches and processes.

    Attributes:
        loss: the total that was minimised.
        loss_cls: class loss; ``loss_cls_fg + loss_cls_bg``.
        loss_box: box loss.
        loss_cls_fg: share of the class loss that comes from anchors with an object.
        loss_cls_bg: share of the class loss that comes from background anchors.
        num_foreground: anchors with an object.
        num_background: anchors without one.
        num_ignored: anchors that take part in no loss.
        grad_norm: L2 norm of all gradients, before clipping.
    """

    loss: Tensor
    loss_cls: Tensor
    loss_box: Tensor
    loss_cls_fg: Tensor
    loss_cls_bg: Tensor
    num_foreground: Tensor
    num_background: Tensor
    num_ignored: Tensor
    grad_norm: Tensor

    def stack(self) -> Tensor:
        """Return the [9] float64 tensor of all fields in order, detached, on their device; it does not synchronise.

        float64 holds every count exactly (float32 would lose the last digits of counts above 2**24).
        """
        values = [getattr(self, field.name).detach().reshape(()) for field in fields(self)]
        return torch.stack([value.to(torch.float64) for value in values])

    def to_host(self) -> dict[str, float]:
        """Return the fields and ``fg_share`` as Python numbers; the device is read (and waited for) once."""
        names = [field.name for field in fields(self)]
        host: dict[str, float] = dict(zip(names, self.stack().tolist(), strict=True))
        host["fg_share"] = foreground_share(host["loss_cls_fg"], host["loss_cls_bg"])
        return host


def foreground_share(loss_cls_fg: float, loss_cls_bg: float) -> float:
    """Return ``fg / (fg + bg)`` of the class loss, in [0, 1]; NaN where the class loss is 0."""
    total = loss_cls_fg + loss_cls_bg
    return loss_cls_fg / total if total != 0.0 else float("nan")
