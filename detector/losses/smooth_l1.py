"""Smooth L1 loss on box offsets."""

import torch
from torch import Tensor

from detector.ops.precision import at_least_float32


def smooth_l1_loss(bbox_deltas: Tensor, target_deltas: Tensor, *, beta: float = 0.0) -> Tensor:
    """Return the smooth L1 loss of every box, summed over its four offsets.

    With d = |prediction - target|: 0.5 d^2 / beta below beta, d - 0.5 beta from there on (Girshick 2015, "Fast R-CNN",
    Eq. 3, where beta = 1). beta = 0 is plain L1.

    Args:
        bbox_deltas: [..., 4] predicted offsets; half types are computed in float32.
        target_deltas: [..., 4] offsets to reach.
        beta: where the parabola meets the line, >= 0.

    Returns:
        [...] loss of each box, >= 0.

    Raises:
        ValueError: if the shapes differ, or beta is negative.
    """
    if bbox_deltas.shape != target_deltas.shape:
        raise ValueError(f"shapes differ: {tuple(bbox_deltas.shape)} and {tuple(target_deltas.shape)}")
    if not beta >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}")
    d = (at_least_float32(bbox_deltas) - target_deltas).abs()
    # At beta = 0 the parabola would divide by 0 and its gradient would be NaN even where it is not selected.
    loss = d if beta == 0 else torch.where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta)
    return loss.sum(dim=-1)
