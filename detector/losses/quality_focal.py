"""Quality focal loss: the focal loss for soft targets in [0, 1] instead of 0 and 1.

For one logit x with p = sigmoid(x) and a target y: QFL = |y - p|^gamma (-y log p - (1 - y) log(1 - p)) (Li et al. 2020,
"Generalized Focal Loss", arXiv 2006.04388, Eq. 2; their beta is gamma here). y is the quality at an anchor's own class
(in a detector the IoU of its predicted box) and 0 at every other one. With y = 1 it is the focal loss without alpha.

Letters: K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.losses.sigmoid_terms import (
    check_gamma,
    check_inputs,
    focal_term,
    own_class_idxs,
    own_class_quality,
    sum_terms,
)
from detector.losses.split import sum_split
from detector.ops.precision import at_least_float32


def quality_focal_loss(
    cls_logits: Tensor, target_labels: Tensor, quality: Tensor, *, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return the quality focal loss of foreground and of background anchors, summed.

    The least loss is at p = quality, so that a score comes to say how good the box is. An "anchor" is anything with K
    scores: a classifier passes [N, K], [N] and the soft target of each sample's own class, [N].

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        quality: [...] in [0, 1], target of the own class of the anchors that have one. It is never differentiated; what
            it is at other anchors does not matter.
        gamma: focusing exponent, >= 0.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors; not divided by anything. Ignored anchors count in neither, whatever their
        logits, and get no gradient at finite ones. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, or gamma is out of range. The range of quality is not
            checked: that would make a GPU wait.
    """
    anchor_loss = quality_focal_loss_per_anchor(cls_logits, target_labels, quality, gamma=gamma)
    return sum_split(anchor_loss, target_labels)


def quality_focal_loss_per_anchor(
    cls_logits: Tensor, target_labels: Tensor, quality: Tensor, *, gamma: float = 2.0
) -> Tensor:
    """Return the quality focal loss of every anchor, summed over its K terms.

    Args:
        cls_logits: [..., K], see :func:`quality_focal_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        quality: [...], see :func:`quality_focal_loss`.
        gamma: see :func:`quality_focal_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding. It and its gradient are finite for every
        logit x for which gamma * x is.

    Raises:
        ValueError: see :func:`quality_focal_loss`.
    """
    check_inputs(cls_logits, target_labels)
    check_gamma(gamma)
    x = at_least_float32(cls_logits)
    y = own_class_quality(quality, target_labels, x)
    own_term = _quality_focal_term(x.gather(-1, own_class_idxs(target_labels)), y, gamma)  # [..., 1]
    return sum_terms(focal_term(-x, gamma, 1.0), own_term, target_labels)


def quality_focal_background_terms(cls_logits: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Return what each class adds to the loss of a background anchor: -p^gamma log(1 - p).

    Args:
        cls_logits: [..., K], see :func:`quality_focal_loss`.
        gamma: see :func:`quality_focal_loss`.

    Returns:
        [..., K] float32 (float64 for float64 logits), >= 0; its sum over K is the loss of a background anchor.

    Raises:
        ValueError: if gamma is out of range.
    """
    check_gamma(gamma)
    return focal_term(-at_least_float32(cls_logits), gamma, 1.0)


def _quality_focal_term(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """Return |y - p|^gamma (-y log p - (1 - y) log(1 - p)) for p = sigmoid(x)."""
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    error = (y - torch.sigmoid(x)).abs()
    # At 0 the power's slope is infinite for gamma < 1, and infinite times the slope 0 of |0| is NaN.
    return error.clamp(min=torch.finfo(error.dtype).tiny).pow(gamma) * ce
