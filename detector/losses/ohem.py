"""Online hard example mining: which anchors a loss is summed over. Letters: N images, R anchors."""

import torch
from torch import Tensor

from detector.structures import BACKGROUND


def hard_example_mask(anchor_loss: Tensor, target_labels: Tensor, *, negatives_per_positive: float = 3.0) -> Tensor:
    """Return the anchors to train on: all foreground ones and, in each image, the hardest background ones.

    Mining by loss is Shrivastava et al. 2016 ("Training Region-based Object Detectors with Online Hard Example
    Mining"); the fixed ratio to the foreground, 3 : 1, is that of SSD (Liu et al. 2016, Sec. 2.2), which the focal loss
    paper compares with as "OHEM 1:3" (Lin et al. 2017, Sec. 5.1). No NMS thins the candidates out before, as it does
    there, so that neighbouring anchors on one hard spot may all be chosen.

    The shapes do not depend on the data, and nothing is read from the device: ranks are compared with a tensor.

    Args:
        anchor_loss: [N, R] what "hard" is measured by; not differentiated. NaN counts as hardest, so it is not hidden.
        target_labels: [N, R] int64: 0 ... K-1, ``BACKGROUND`` or any other negative number (ignored).
        negatives_per_positive: background anchors for each foreground anchor of the image, >= 0, rounded down per
            image.

    Returns:
        [N, R] bool. An image without foreground has none; fewer background anchors than wanted are all chosen; of equal
        losses the lower index comes first. Ignored anchors are never chosen.

    Raises:
        ValueError: if the shapes differ or are not [N, R], or negatives_per_positive is negative.
    """
    if anchor_loss.shape != target_labels.shape or anchor_loss.ndim != 2:
        raise ValueError(
            f"anchor_loss and target_labels must both be [N, R], got {tuple(anchor_loss.shape)} and "
            f"{tuple(target_labels.shape)}"
        )
    if not negatives_per_positive >= 0:
        raise ValueError(f"negatives_per_positive must be >= 0, got {negatives_per_positive}")
    foreground, background = target_labels >= 0, target_labels == BACKGROUND
    num_wanted = (foreground.sum(dim=1, keepdim=True).double() * negatives_per_positive).floor()  # [N, 1]
    hardness = torch.where(background, anchor_loss.detach(), -torch.inf)
    order = hardness.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(order.shape[1], device=order.device)
    hardest = torch.zeros_like(background).scatter(1, order, rank < num_wanted)
    return foreground | (background & hardest)
