"""What the losses on sigmoids share: their checks, their weights, and how an anchor's K terms become one loss.

Each class k of an anchor is a yes/no question with its own logit. A loss of this family has one term for "yes" (the
anchor's own class) and one for "no" (every other class, and all classes of a background anchor).

Letters: N images, R anchors, K classes.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.ops.precision import at_least_float32

Alpha = float | Sequence[float] | Tensor | None
"""Balance of the "yes" terms against the "no" terms: a weight in [0, 1], one per class, or None for no weights."""

Weights = float | Tensor
"""One weight for all classes, or [K] weights."""

Term = Callable[[Tensor, Weights], Tensor]
"""The term of a loss: logits x_t of the truth, and the terms' weights, to the terms."""


def check_inputs(cls_logits: Tensor, target_labels: Tensor) -> None:
    """Check what every loss of the family is given.

    Raises:
        ValueError: if the shapes do not fit together, or a type is wrong. Labels are not read: that would make a GPU
            wait. One above K - 1 is an error of the indexing itself.
    """
    if cls_logits.shape[:-1] != target_labels.shape or not cls_logits.ndim:
        raise ValueError(
            f"cls_logits [..., K] and target_labels [...] do not fit: {tuple(cls_logits.shape)} and "
            f"{tuple(target_labels.shape)}"
        )
    if not cls_logits.is_floating_point():
        raise ValueError(f"cls_logits must be floating point, got {cls_logits.dtype}")
    if target_labels.dtype != torch.int64:
        raise ValueError(f"target_labels must hold integers (class indices), got {target_labels.dtype}, not int64")


def check_gamma(gamma: float) -> None:
    """Check a focusing exponent.

    Raises:
        ValueError: if it is negative or NaN.
    """
    if not gamma >= 0:
        raise ValueError(f"gamma must be >= 0, got {gamma}")


def alpha_weights(alpha: Alpha, x: Tensor) -> tuple[Weights, Weights]:
    """Return the weights of the "yes" and of the "no" terms, alpha and 1 - alpha.

    Args:
        alpha: a number, [K] numbers as a sequence or tensor (never differentiated), or None: all weigh 1.
        x: [..., K] logits, whose type and device the weights of the classes take.

    Raises:
        ValueError: if alpha has not K numbers, or one is not in [0, 1]. Of a tensor on an accelerator only the shape
            is checked.
    """
    if alpha is None:
        return 1.0, 1.0
    if isinstance(alpha, int | float):
        _check_range([alpha], alpha)
        return alpha, 1.0 - alpha
    per_class = torch.as_tensor(alpha, dtype=x.dtype).detach()
    if per_class.shape != x.shape[-1:]:
        raise ValueError(f"alpha must be one number per class (K = {x.shape[-1]}), got shape {tuple(per_class.shape)}")
    if not isinstance(alpha, Tensor):
        _check_range(alpha, alpha)
    elif alpha.device.type == "cpu":
        _check_range(alpha.tolist(), alpha)
    # From pageable memory this does not wait for the device, and the numbers are copied before it returns.
    per_class = per_class.to(x.device, non_blocking=True)
    return per_class, 1.0 - per_class


def focal_term(x_t: Tensor, gamma: float, alpha_t: Weights) -> Tensor:
    """Return -alpha_t (1 - p_t)^gamma log p_t for p_t = sigmoid(x_t).

    Everything stays in logarithms, so the term and its gradient are finite for every x_t for which gamma * x_t is:
    (1 - p_t)^gamma = exp(gamma log(1 - p_t)).
    """
    ce = -F.logsigmoid(x_t)
    if gamma == 0:
        return alpha_t * ce
    # log(1 - p_t) = log p_t - x_t, so that one logsigmoid serves both.
    return alpha_t * torch.exp(gamma * (-ce - x_t)) * ce


def balanced_loss_per_anchor(cls_logits: Tensor, target_labels: Tensor, alpha: Alpha, term: Term) -> Tensor:
    """Return the loss of every anchor, summed over its K terms, of a loss that has the same term for "yes" and "no".

    Args:
        cls_logits: [..., K]; half types are computed in float32.
        target_labels: [...] int64. Where it is negative, the loss is that of a background anchor.
        alpha: see :func:`alpha_weights`.
        term: x_t [...] (x for "yes", -x for "no") and its weights to the terms [...].

    Raises:
        ValueError: see :func:`check_inputs` and :func:`alpha_weights`.
    """
    check_inputs(cls_logits, target_labels)
    x = at_least_float32(cls_logits)
    own_weights, other_weights = alpha_weights(alpha, x)
    own_idxs = own_class_idxs(target_labels)
    own_term = term(x.gather(-1, own_idxs), own_class_weights(own_weights, own_idxs))  # [..., 1]
    return sum_terms(term(-x, other_weights), own_term, target_labels)


def balanced_background_terms(cls_logits: Tensor, alpha: Alpha, term: Term) -> Tensor:
    """Return the "no" terms [..., K] of such a loss; see :func:`balanced_loss_per_anchor`."""
    x = at_least_float32(cls_logits)
    _, other_weights = alpha_weights(alpha, x)
    return term(-x, other_weights)


def own_class_idxs(target_labels: Tensor) -> Tensor:
    """Return the class of every anchor as [..., 1], to index [..., K]; 0 for anchors that have none."""
    return target_labels.clamp(min=0).unsqueeze(-1)


def own_class_weights(weights: Weights, own_idxs: Tensor) -> Weights:
    """Return the weight of every anchor's own class, [..., 1] if each class has one of its own."""
    return weights[own_idxs] if isinstance(weights, Tensor) else weights


def own_class_quality(quality: Tensor, target_labels: Tensor, x: Tensor) -> Tensor:
    """Return the soft target of every anchor's own class, 0 for anchors that have none.

    Args:
        quality: [...] in [0, 1]. It is never differentiated, and only read where the label is a class: elsewhere it may
            be anything, even NaN.
        target_labels: [...] int64.
        x: [..., K] logits, whose type the result takes.

    Returns:
        [..., 1], without a graph.

    Raises:
        ValueError: if there is not one number per anchor. The numbers are not checked: that would make a GPU wait.
    """
    if quality.shape != target_labels.shape:
        raise ValueError(
            f"quality [...] and target_labels [...] do not fit: {tuple(quality.shape)} and {tuple(target_labels.shape)}"
        )
    return torch.where(target_labels >= 0, quality.detach(), 0.0).to(x.dtype).unsqueeze(-1)


def sum_terms(background_terms: Tensor, own_term: Tensor, target_labels: Tensor) -> Tensor:
    """Return the loss of every anchor, summed over its K terms.

    No one-hot target is made: the "no" terms are summed over all K, and at an object's own class the difference to the
    "yes" term is added.

    Args:
        background_terms: [..., K] "no" terms.
        own_term: [..., 1] "yes" term of the own class; not read where the label is negative.
        target_labels: [...] int64.

    Returns:
        [...] losses. Where the label is negative, the loss is that of a background anchor.
    """
    correction = (own_term - background_terms.gather(-1, own_class_idxs(target_labels))).squeeze(-1)
    return background_terms.sum(dim=-1) + torch.where(target_labels >= 0, correction, 0.0)


def _check_range(values: Sequence[float], alpha: Alpha) -> None:
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"alpha must be None or in [0, 1], got {alpha}")
