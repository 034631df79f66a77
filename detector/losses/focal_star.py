"""FL*, the focal loss's other form: a steeper and shifted cross-entropy.

For one logit x, x_t = x for the class that the anchor has and -x for every other one. With p_t* = sigmoid(gamma x_t +
beta): FL* = -alpha_t log(p_t*) / gamma (Lin et al. 2017, "Focal Loss for Dense Object Detection", Appendix A), with
alpha_t = alpha for the class it has and 1 - alpha for the others. The paper shows that it trains as well as the focal
loss (33.8 AP at gamma = 2, beta = 1; 33.9 at 4, 0): the small weight of easy examples counts, not the exact form.

Letters: K classes.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from detector.losses.sigmoid_terms import Alpha, Term, balanced_background_terms, balanced_loss_per_anchor
from detector.losses.split import sum_split


def focal_star_loss(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = None, gamma: float = 2.0, beta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return FL* of foreground and of background anchors, summed.

    gamma = 1 with beta = 0 is binary cross-entropy. An "anchor" is anything with K yes/no scores: an image classifier
    passes [N, K] and [N].

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        alpha: weight of the terms of the class an anchor has, in [0, 1]; the others weigh 1 - alpha. With [K] numbers,
            the term of class k weighs alpha[k] where the anchor has that class and 1 - alpha[k] elsewhere. None: all
            weigh 1.
        gamma: steepness, > 0.
        beta: shift, any finite number; the larger, the less the easy examples count.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors; not divided by anything. Ignored anchors count in neither, whatever their
        logits, and get no gradient at finite ones. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, or alpha, gamma or beta is out of range (the numbers of
            an alpha on an accelerator are not read).
    """
    anchor_loss = focal_star_loss_per_anchor(cls_logits, target_labels, alpha=alpha, gamma=gamma, beta=beta)
    return sum_split(anchor_loss, target_labels)


def focal_star_loss_per_anchor(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = None, gamma: float = 2.0, beta: float = 1.0
) -> Tensor:
    """Return FL* of every anchor, summed over its K terms.

    Args:
        cls_logits: [..., K], see :func:`focal_star_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        alpha: see :func:`focal_star_loss`.
        gamma: see :func:`focal_star_loss`.
        beta: see :func:`focal_star_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding. It and its gradient are finite for every
        logit x for which gamma * x is.

    Raises:
        ValueError: see :func:`focal_star_loss`.
    """
    return balanced_loss_per_anchor(cls_logits, target_labels, alpha, _focal_star_term(gamma, beta))


def focal_star_background_terms(
    cls_logits: Tensor, *, alpha: Alpha = None, gamma: float = 2.0, beta: float = 1.0
) -> Tensor:
    """Return what each class adds to the loss of a background anchor.

    It is -(1 - alpha) log(sigmoid(beta - gamma x)) / gamma.

    Args:
        cls_logits: [..., K], see :func:`focal_star_loss`.
        alpha: see :func:`focal_star_loss`.
        gamma: see :func:`focal_star_loss`.
        beta: see :func:`focal_star_loss`.

    Returns:
        [..., K] float32 (float64 for float64 logits), >= 0; its sum over K is the loss of a background anchor.

    Raises:
        ValueError: if alpha, gamma or beta is out of range.
    """
    return balanced_background_terms(cls_logits, alpha, _focal_star_term(gamma, beta))


def _focal_star_term(gamma: float, beta: float) -> Term:
    """Return the term -alpha_t log(sigmoid(gamma x_t + beta)) / gamma, after a look at gamma and beta."""
    if not gamma > 0:
        raise ValueError(f"gamma must be > 0, got {gamma}")
    if not abs(beta) < math.inf:
        raise ValueError(f"beta must be finite, got {beta}")
    return lambda x_t, alpha_t: alpha_t * -F.logsigmoid(gamma * x_t + beta) / gamma
