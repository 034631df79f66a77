"""Softmax focal loss with integer targets.

FL(p_t) = -alpha_t (1 - p_t)^gamma log p_t, p_t = softmax(x)_t at the target class t: the formula of Lin et al. 2017
("Focal Loss for Dense Object Detection", Sec. 3.2) over a softmax; the paper itself uses sigmoids, see
:func:`detector.losses.sigmoid_focal_loss`. Letters: C classes (in a detector K + 1: the background is one of them).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.losses.class_targets import Reduction, checked_targets, reduce_loss, weight_per_class
from detector.ops.precision import at_least_float32


def softmax_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | Sequence[float] | Tensor | None = None,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """Return the focal loss of the softmax, each target weighted by alpha of its class.

    gamma = 0 with alpha = None is ``torch.nn.functional.cross_entropy``. Everything stays in logarithms, so the loss
    and its gradient are finite, also where p_t rounds to 1 and gamma < 1: (1 - p_t)^gamma = exp(gamma log(1 - p_t)),
    and 1 - p_t is the sum of the other classes' probabilities.

    Args:
        logits: [..., C] floating point, C >= 2. Half types are computed in float32.
        targets: [...] integers: 0 ... C-1 or ``ignore_index``. Others raise on a CPU; on a GPU, where a look at them
            would make the host wait, they end in the device's assertion.
        alpha: [C] factors >= 0, indexed by the target. One number >= 0 weighs all targets alike, so that it merely
            rescales the loss: a softmax has no 1 - alpha for "not this class". None: all 1.
            Never differentiated.
        gamma: focusing exponent, >= 0.
        reduction: "none", "sum", or "mean" = sum / number of targets that are not ignored. (Unlike a weighted
            cross-entropy's mean, alpha is not divided out again.)
        ignore_index: target that counts nowhere; may be one of the classes.

    Returns:
        [...] for "none" (0 where ignored), else a scalar. 0 for empty inputs and where all targets are ignored, which
        get no gradient even if their logits are inf or NaN.

    Raises:
        ValueError: if the shapes or types do not fit together, C < 2, targets are out of range, alpha is negative
            or not C numbers, gamma is negative, or the reduction is unknown.
    """
    targets = checked_targets(logits, targets, ignore_index)
    if not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
    kept = targets != ignore_index
    idxs = torch.where(kept, targets, 0)
    # Replaced before the loss: the gradient of a non-finite softmax would be NaN even where the loss is not selected.
    x = at_least_float32(logits.masked_fill(~kept.unsqueeze(-1), 0.0))
    loss = _focal(x.log_softmax(dim=-1), idxs.unsqueeze(-1), gamma) * _alpha_t(alpha, idxs, x)
    return reduce_loss(torch.where(kept, loss, 0.0), kept, reduction)


def _focal(log_p: Tensor, idxs: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p_t)^gamma log p_t, [...], for log_p [..., C] and the target classes [..., 1]."""
    ce = -log_p.gather(-1, idxs).squeeze(-1)
    if gamma == 0:
        return ce
    log_not_p_t = log_p.scatter(-1, idxs, -torch.inf).logsumexp(dim=-1)
    return torch.exp(gamma * log_not_p_t) * ce


def _alpha_t(alpha: float | Sequence[float] | Tensor | None, idxs: Tensor, logits: Tensor) -> Tensor | float:
    """Return what each target weighs: [...] or one number for all."""
    if alpha is None:
        return 1.0
    if isinstance(alpha, int | float):
        if not alpha >= 0:
            raise ValueError(f"alpha must be >= 0, got {alpha}")
        return alpha
    return weight_per_class("alpha", alpha, logits)[idxs]
