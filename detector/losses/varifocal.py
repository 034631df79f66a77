"""Varifocal loss: soft targets for objects at full weight, focal weights for everything else.

For one logit x with p = sigmoid(x) and a target q, the quality at an anchor's own class (in a detector the IoU of its
predicted box) and 0 at every other one (Zhang et al. 2021, "VarifocalNet", arXiv 2008.13367, Eq. 2):
VFL = q (-q log p - (1 - q) log(1 - p)) where q > 0, and -alpha p^gamma log(1 - p) where q = 0. Unlike the focal
loss, it does not weigh objects down when they are easy: they are few, and count by their quality.

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


def varifocal_loss(
    cls_logits: Tensor, target_labels: Tensor, quality: Tensor, *, alpha: float | None = 0.75, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return the varifocal loss of foreground and of background anchors, summed.

    The least loss of an object is at p = quality, so that a score comes to say how good the box is. An "anchor" is
    anything with K scores: a classifier passes [N, K], [N] and the soft target of each sample's own class, [N].

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        quality: [...] in [0, 1], target of the own class of the anchors that have one. It is never differentiated; what
            it is at other anchors does not matter.
        alpha: weight of the terms with target 0, in [0, 1]. Unlike the focal loss's, it has no counterpart 1 - alpha on
            the others. None: 1.
        gamma: focusing exponent of the terms with target 0, >= 0.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors; not divided by anything. Ignored anchors count in neither, whatever their
        logits, and get no gradient at finite ones. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, or alpha or gamma is out of range. The range of quality
            is not checked: that would make a GPU wait.
    """
    anchor_loss = varifocal_loss_per_anchor(cls_logits, target_labels, quality, alpha=alpha, gamma=gamma)
    return sum_split(anchor_loss, target_labels)


def varifocal_loss_per_anchor(
    cls_logits: Tensor, target_labels: Tensor, quality: Tensor, *, alpha: float | None = 0.75, gamma: float = 2.0
) -> Tensor:
    """Return the varifocal loss of every anchor, summed over its K terms.

    Args:
        cls_logits: [..., K], see :func:`varifocal_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        quality: [...], see :func:`varifocal_loss`.
        alpha: see :func:`varifocal_loss`.
        gamma: see :func:`varifocal_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding. It and its gradient are finite for every
        logit x for which gamma * x is.

    Raises:
        ValueError: see :func:`varifocal_loss`.
    """
    check_inputs(cls_logits, target_labels)
    x = at_least_float32(cls_logits)
    other_terms = varifocal_background_terms(x, alpha=alpha, gamma=gamma)
    own_idxs = own_class_idxs(target_labels)
    q = own_class_quality(quality, target_labels, x)
    # An object of quality 0, e.g. with a box beside its target, is taken as background at its own class too.
    own_ce = F.binary_cross_entropy_with_logits(x.gather(-1, own_idxs), q, reduction="none")  # [..., 1]
    own_term = torch.where(q > 0, q * own_ce, other_terms.gather(-1, own_idxs))
    return sum_terms(other_terms, own_term, target_labels)


def varifocal_background_terms(cls_logits: Tensor, *, alpha: float | None = 0.75, gamma: float = 2.0) -> Tensor:
    """Return what each class adds to the loss of a background anchor: -alpha p^gamma log(1 - p).

    Args:
        cls_logits: [..., K], see :func:`varifocal_loss`.
        alpha: see :func:`varifocal_loss`.
        gamma: see :func:`varifocal_loss`.

    Returns:
        [..., K] float32 (float64 for float64 logits), >= 0; its sum over K is the loss of a background anchor.

    Raises:
        ValueError: if alpha or gamma is out of range.
    """
    check_gamma(gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be None or in [0, 1], got {alpha}")
    return focal_term(-at_least_float32(cls_logits), gamma, 1.0 if alpha is None else alpha)
