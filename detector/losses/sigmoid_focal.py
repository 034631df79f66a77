r"""Sigmoid focal loss with integer labels.

For one logit x with p = sigmoid(x), p_t = p for the class that the anchor has and 1 - p for every other one:
FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), alpha_t = alpha for the class it has and 1 - alpha for the others
(Lin et al. 2017, "Focal Loss for Dense Object Detection", Sec. 3.2 and 4.1).

Letters: N images, R anchors, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.ops.precision import at_least_float32
from detector.structures import BACKGROUND


def sigmoid_focal_loss(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return the focal loss of foreground and of background anchors, summed.

    Neither sum is divided by anything: the paper divides by the number of foreground anchors (Sec. 4.1), which the
    caller knows. gamma = 0 with alpha = None is binary cross-entropy.

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        alpha: weight of the terms of the class an anchor has, in [0, 1]; the others weigh 1 - alpha. None: all weigh 1.
        gamma: focusing exponent, >= 0.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors. Ignored anchors count in neither and get no gradient. 0 for empty inputs.

    Raises:
        ValueError: if the shapes do not fit together, or alpha or gamma is out of range.
    """
    anchor_loss = sigmoid_focal_loss_per_anchor(cls_logits, target_labels, alpha=alpha, gamma=gamma)
    foreground = torch.where(target_labels >= 0, anchor_loss, 0.0).sum()
    background = torch.where(target_labels == BACKGROUND, anchor_loss, 0.0).sum()
    return foreground, background


def sigmoid_focal_loss_per_anchor(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: float | None = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return the focal loss of every anchor, summed over its K terms.

    No one-hot target is made: the terms of "not this class" are summed over all K, and at an object's own class the
    difference to the term of "this class" is added. Everything stays in logarithms, so the loss and its gradient are
    finite for every logit x for which gamma * x is: (1 - p_t)^gamma = exp(gamma log(1 - p_t)).

    Args:
        cls_logits: [..., K], see :func:`sigmoid_focal_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        alpha: see :func:`sigmoid_focal_loss`.
        gamma: see :func:`sigmoid_focal_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding.

    Raises:
        ValueError: see :func:`sigmoid_focal_loss`.
    """
    _check(cls_logits, target_labels, alpha, gamma)
    x = at_least_float32(cls_logits)
    other_terms = _focal_term(-x, gamma, 1.0 if alpha is None else 1.0 - alpha)  # [..., K]
    own_idxs = target_labels.clamp(min=0).unsqueeze(-1)
    own_x = x.gather(-1, own_idxs)  # [..., 1]
    own_term = _focal_term(own_x, gamma, 1.0 if alpha is None else alpha)
    correction = (own_term - other_terms.gather(-1, own_idxs)).squeeze(-1)
    return other_terms.sum(dim=-1) + torch.where(target_labels >= 0, correction, 0.0)


def _focal_term(x_t: Tensor, gamma: float, alpha_t: float) -> Tensor:
    """Return -alpha_t (1 - p_t)^gamma log p_t for p_t = sigmoid(x_t)."""
    ce = -F.logsigmoid(x_t)
    if gamma == 0:
        return alpha_t * ce
    # log(1 - p_t) = log p_t - x_t, so that one logsigmoid serves both.
    return alpha_t * torch.exp(gamma * (-ce - x_t)) * ce


def _check(cls_logits: Tensor, target_labels: Tensor, alpha: float | None, gamma: float) -> None:
    if cls_logits.shape[:-1] != target_labels.shape or not cls_logits.ndim:
        raise ValueError(
            f"cls_logits [..., K] and target_labels [...] do not fit: {tuple(cls_logits.shape)} and "
            f"{tuple(target_labels.shape)}"
        )
    if target_labels.is_floating_point():
        raise ValueError(f"target_labels must hold integers (class indices), got {target_labels.dtype}")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be None or in [0, 1], got {alpha}")
    if not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")
