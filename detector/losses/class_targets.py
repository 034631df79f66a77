"""What the softmax losses share: checks of their inputs, weights per class, reductions. Letters: C classes."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["none", "mean", "sum"]


def checked_targets(logits: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """Return the class indices [...] as int64, after a look whether they fit the logits [..., C].

    Indices out of range are looked for on a CPU only: on a GPU the host would have to wait for the answer, and the
    device's own assertion stops the run there.

    Raises:
        ValueError: if the shapes or types do not fit, C < 2, or targets are out of range.
    """
    if not logits.ndim or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits [..., C] and targets [...] do not fit: {tuple(logits.shape)} and {tuple(targets.shape)}"
        )
    num_classes = logits.shape[-1]
    if num_classes < 2:
        raise ValueError(f"logits must have at least 2 classes (the softmax over one is always 1), got {num_classes}")
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating point, got {logits.dtype}")
    if targets.is_floating_point():
        raise ValueError(f"targets must hold integers (class indices), got {targets.dtype}")
    targets = targets.long()  # before comparing: an ignore_index of -100 would wrap round in uint8
    if targets.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = targets[(targets != ignore_index) & ((targets < 0) | (targets >= num_classes))]
        if len(wrong):
            raise ValueError(
                f"targets must be in [0, {num_classes - 1}] or ignore_index = {ignore_index}, got {int(wrong[0])}"
            )
    return targets


def weight_per_class(name: str, weights: Sequence[float] | Tensor, logits: Tensor) -> Tensor:
    """Return weights as a tensor [C] like the logits, not differentiated.

    Args:
        name: the argument's name, for the error.
        weights: C numbers >= 0.
        logits: [..., C], of the type and on the device wanted.

    Raises:
        ValueError: if there are not exactly C numbers in one dimension, or one is negative or NaN. The numbers of a
            tensor on an accelerator are not read.
    """
    per_class = torch.as_tensor(weights, dtype=logits.dtype).detach()
    if per_class.shape != logits.shape[-1:]:
        raise ValueError(
            f"{name} must be one number per class (C = {logits.shape[-1]}), got shape {tuple(per_class.shape)}"
        )
    readable = per_class.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and not all(weight >= 0 for weight in per_class.tolist()):
        raise ValueError(f"{name} must be >= 0, got {weights}")
    # From pageable memory this does not wait for the device, and the numbers are copied before it returns.
    return per_class.to(logits.device, non_blocking=True)


def reduce_loss(loss: Tensor, counts: Tensor, reduction: Reduction) -> Tensor:
    """Return the loss as it is, its sum, or its sum divided by the sum of ``counts``, where 0 / 0 is 0.

    Args:
        loss: [...], 0 where it does not count.
        counts: [...] what each element counts in the mean: booleans or weights.
        reduction: what to return.

    Raises:
        ValueError: if the reduction is none of the three.
    """
    match reduction:
        case "none":
            return loss
        case "sum":
            return loss.sum()
        case "mean":
            divisor = counts.sum()
            return loss.sum() / torch.where(divisor == 0, 1, divisor)
        case _:
            raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
