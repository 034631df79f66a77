"""Binary cross-entropy with integer labels, and its alpha-balanced form.

For one logit x with p = sigmoid(x), p_t = p for the class that the anchor has and 1 - p for every other one:
CE(p_t) = -alpha_t log(p_t), alpha_t = alpha for the class it has and 1 - alpha for the others (Lin et al. 2017, "Focal
Loss for Dense Object Detection", Eq. 3; alpha_t = 1 is Eq. 1).

Letters: K classes.
"""

import torch.nn.functional as F
from torch import Tensor

from detector.losses.sigmoid_terms import Alpha, Weights, balanced_background_terms, balanced_loss_per_anchor
from detector.losses.split import sum_split


def sigmoid_ce_loss(cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = None) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy of foreground and of background anchors, summed.

    It is the focal loss with gamma = 0. An "anchor" is anything with K yes/no scores: an image classifier passes
    [N, K] and [N].

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        alpha: weight of the terms of the class an anchor has, in [0, 1]; the others weigh 1 - alpha. With [K] numbers,
            the term of class k weighs alpha[k] where the anchor has that class and 1 - alpha[k] elsewhere. None: all
            weigh 1.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors; not divided by anything. Ignored anchors count in neither, whatever their
        logits, and get no gradient at finite ones. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, or alpha is out of range (the numbers of an alpha on an
            accelerator are not read).
    """
    return sum_split(sigmoid_ce_loss_per_anchor(cls_logits, target_labels, alpha=alpha), target_labels)


def sigmoid_ce_loss_per_anchor(cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = None) -> Tensor:
    """Return the binary cross-entropy of every anchor, summed over its K terms.

    Args:
        cls_logits: [..., K], see :func:`sigmoid_ce_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        alpha: see :func:`sigmoid_ce_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding. It and its gradient are finite for every
        finite logit.

    Raises:
        ValueError: see :func:`sigmoid_ce_loss`.
    """
    return balanced_loss_per_anchor(cls_logits, target_labels, alpha, _ce_term)


def sigmoid_ce_background_terms(cls_logits: Tensor, *, alpha: Alpha = None) -> Tensor:
    """Return what each class adds to the loss of a background anchor: -(1 - alpha) log(1 - p).

    Args:
        cls_logits: [..., K], see :func:`sigmoid_ce_loss`.
        alpha: see :func:`sigmoid_ce_loss`.

    Returns:
        [..., K] float32 (float64 for float64 logits), >= 0; its sum over K is the loss of a background anchor.

    Raises:
        ValueError: if alpha is out of range.
    """
    return balanced_background_terms(cls_logits, alpha, _ce_term)


def _ce_term(x_t: Tensor, alpha_t: Weights) -> Tensor:
    """Return -alpha_t log p_t for p_t = sigmoid(x_t)."""
    return alpha_t * -F.logsigmoid(x_t)
