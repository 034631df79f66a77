"""Sigmoid focal loss with integer labels.

For one logit x with p = sigmoid(x), p_t = p for the class that the anchor has and 1 - p for every other one:
FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), alpha_t = alpha for the class it has and 1 - alpha for the others
(Lin et al. 2017, "Focal Loss for Dense Object Detection", Sec. 3.2 and 4.1).

Letters: N images, R anchors, Rl anchors of one pyramid level, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.losses.focal_autograd import fused_focal_sums
from detector.losses.focal_backend import FocalBackend, focal_kernels
from detector.losses.focal_form import FocalForm
from detector.losses.sigmoid_terms import (
    Alpha,
    balanced_background_terms,
    balanced_loss_per_anchor,
    check_gamma,
    check_inputs,
    focal_term,
)
from detector.losses.split import ClassSums, FocalSums, focal_sums


def sigmoid_focal_loss(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = 0.25, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Return the focal loss of foreground and of background anchors, summed.

    Neither sum is divided by anything: the paper divides by the number of foreground anchors (Sec. 4.1), which the
    caller knows. gamma = 0 with alpha = None is binary cross-entropy.

    Nothing here knows of boxes: an "anchor" is anything with K yes/no scores. An image classifier passes [N, K] and
    [N]; a sample of none of the classes is ``BACKGROUND``.

    Args:
        cls_logits: [..., K] floating point. Half types are computed in float32.
        target_labels: [...] int64: 0 ... K-1, ``BACKGROUND`` (-1) or ``IGNORE`` (-2, or any other negative number).
        alpha: weight of the terms of the class an anchor has, in [0, 1]; the others weigh 1 - alpha. With [K] numbers,
            the term of class k weighs alpha[k] where the anchor has that class and 1 - alpha[k] elsewhere. None: all
            weigh 1.
        gamma: focusing exponent, >= 0.

    Returns:
        ``(foreground, background)``, two differentiable scalars: all K terms of anchors that have an object, and all
        terms of ``BACKGROUND`` anchors. Ignored anchors count in neither, whatever their logits, and get no gradient
        at finite ones. 0 for empty inputs.

    Raises:
        ValueError: if the shapes or types do not fit together, or alpha or gamma is out of range (the numbers of an
            alpha on an accelerator are not read).
    """
    check_inputs(cls_logits, target_labels)
    while target_labels.ndim < 2:
        cls_logits, target_labels = cls_logits.unsqueeze(0), target_labels.unsqueeze(0)
    sums = sigmoid_focal_sums([cls_logits.flatten(1, -2)], [target_labels.flatten(1)], alpha=alpha, gamma=gamma)
    return sums.foreground.sum(), sums.background.sum()


def sigmoid_focal_sums(
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    *,
    alpha: Alpha = 0.25,
    gamma: float = 2.0,
    divisor: Tensor | float = 1.0,
    backend: FocalBackend = "auto",
) -> FocalSums:
    """Return the focal loss split into foreground and background, per image and pyramid level.

    The gradient is computed in the same pass as the value, so the sums can be differentiated once, not twice.

    Args:
        cls_logits: one [N, Rl, K] per level, see :func:`sigmoid_focal_loss`; any strides, nothing is copied.
        target_labels: one [N, Rl] int64 per level.
        alpha: see :func:`sigmoid_focal_loss`.
        gamma: see :func:`sigmoid_focal_loss`.
        divisor: what the caller is about to divide both sums by, one number or [N, 1]. It changes no result: the
            gradient is kept ready for it, and backward need not touch it again.
        backend: what computes.

    Returns:
        The sums, whose totals are those of :func:`sigmoid_focal_loss`.

    Raises:
        ValueError: see :func:`sigmoid_focal_loss`; also if the numbers of levels differ, or there are none, or the
            backend cannot compute these logits.
    """
    _check_levels(cls_logits, target_labels)
    if torch.compiler.is_compiling():  # a compiler fuses the plain form, and may not see through the other one
        return sigmoid_focal_sums_by_autograd(cls_logits, target_labels, alpha=alpha, gamma=gamma)
    kernels = focal_kernels(backend, cls_logits[0])
    form = FocalForm.of(alpha, gamma, cls_logits[0])
    return fused_focal_sums(kernels, cls_logits, target_labels, form, divisor)


def sigmoid_focal_sums_by_class(
    cls_logits: Sequence[Tensor],
    target_labels: Sequence[Tensor],
    *,
    alpha: Alpha = 0.25,
    gamma: float = 2.0,
    backend: FocalBackend = "auto",
) -> ClassSums | None:
    """Return the focal loss split by class, per image, if the backend has a function of its own for that.

    Args:
        cls_logits: one [N, Rl, K] per level, see :func:`sigmoid_focal_sums`.
        target_labels: one [N, Rl] int64 per level.
        alpha: see :func:`sigmoid_focal_loss`.
        gamma: see :func:`sigmoid_focal_loss`.
        backend: what computes.

    Returns:
        The sums, or None if it has not.

    Raises:
        ValueError: see :func:`sigmoid_focal_sums`.
    """
    _check_levels(cls_logits, target_labels)
    kernels = focal_kernels(backend, cls_logits[0])
    if kernels.by_class is None:
        return None
    return kernels.by_class(cls_logits, target_labels, FocalForm.of(alpha, gamma, cls_logits[0]))


def sigmoid_focal_sums_by_autograd(
    cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor], *, alpha: Alpha = 0.25, gamma: float = 2.0
) -> FocalSums:
    """Return what :func:`sigmoid_focal_sums` does, in operations that autograd differentiates, as often as wanted.

    It is slow and takes many times the memory of the logits.
    """
    _check_levels(cls_logits, target_labels)
    anchor_losses = [
        sigmoid_focal_loss_per_anchor(logits, labels, alpha=alpha, gamma=gamma)
        for logits, labels in zip(cls_logits, target_labels, strict=True)
    ]
    return focal_sums(anchor_losses, target_labels)


def _check_levels(cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor]) -> None:
    if len(cls_logits) != len(target_labels):
        raise ValueError(f"cls_logits has {len(cls_logits)} levels and target_labels {len(target_labels)}")
    shapes = [tuple(logits.shape) for logits in cls_logits]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"cls_logits must be [N, Rl, K] at every level, got {shapes}")
    for logits, labels in zip(cls_logits, target_labels, strict=True):
        check_inputs(logits, labels)


def sigmoid_focal_loss_per_anchor(
    cls_logits: Tensor, target_labels: Tensor, *, alpha: Alpha = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return the focal loss of every anchor, summed over its K terms.

    Args:
        cls_logits: [..., K], see :func:`sigmoid_focal_loss`.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        alpha: see :func:`sigmoid_focal_loss`.
        gamma: see :func:`sigmoid_focal_loss`.

    Returns:
        [...] float32 (float64 for float64 logits), >= 0 up to rounding. It and its gradient are finite for every
        logit x for which gamma * x is.

    Raises:
        ValueError: see :func:`sigmoid_focal_loss`.
    """
    check_gamma(gamma)
    return balanced_loss_per_anchor(
        cls_logits, target_labels, alpha, lambda x_t, alpha_t: focal_term(x_t, gamma, alpha_t)
    )


def sigmoid_focal_background_terms(cls_logits: Tensor, *, alpha: Alpha = 0.25, gamma: float = 2.0) -> Tensor:
    """Return what each class adds to the loss of a background anchor: -(1 - alpha) p^gamma log(1 - p).

    Args:
        cls_logits: [..., K], see :func:`sigmoid_focal_loss`.
        alpha: see :func:`sigmoid_focal_loss`.
        gamma: see :func:`sigmoid_focal_loss`.

    Returns:
        [..., K] float32 (float64 for float64 logits), >= 0; its sum over K is the loss of a background anchor.

    Raises:
        ValueError: if alpha or gamma is out of range.
    """
    check_gamma(gamma)
    return balanced_background_terms(cls_logits, alpha, lambda x_t, alpha_t: focal_term(x_t, gamma, alpha_t))
