"""The class losses to choose from, as the criterion sees them.

Letters: K classes. ``alpha`` is one number, K numbers, or None.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from detector.criterion.class_loss import ClassLoss
from detector.losses.focal_backend import FocalBackend
from detector.losses.focal_star import focal_star_background_terms, focal_star_loss_per_anchor
from detector.losses.quality_focal import quality_focal_background_terms, quality_focal_loss_per_anchor
from detector.losses.sigmoid_ce import sigmoid_ce_background_terms, sigmoid_ce_loss_per_anchor
from detector.losses.sigmoid_focal import (
    sigmoid_focal_background_terms,
    sigmoid_focal_loss_per_anchor,
    sigmoid_focal_sums,
    sigmoid_focal_sums_by_class,
)
from detector.losses.softmax_ce import softmax_ce_loss
from detector.losses.softmax_focal import softmax_focal_loss
from detector.losses.split import ClassSums, FocalSums
from detector.losses.varifocal import varifocal_background_terms, varifocal_loss_per_anchor
from detector.ops.precision import at_least_float32
from detector.structures import BACKGROUND

_IGNORED_TARGET = -100
"""Target of ignored anchors in a softmax loss; PyTorch's value."""

Alpha = float | Sequence[float] | None


def sigmoid_focal_class_loss(*, alpha: Alpha = 0.25, gamma: float = 2.0, backend: FocalBackend = "auto") -> ClassLoss:
    """Return :func:`detector.losses.sigmoid_focal_loss`, the paper's."""
    weights = _alpha_of(alpha)

    def all_levels(cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor], divisor: Tensor | float) -> FocalSums:
        alpha_here = weights(cls_logits[0])
        return sigmoid_focal_sums(
            cls_logits, target_labels, alpha=alpha_here, gamma=gamma, divisor=divisor, backend=backend
        )

    def by_class(cls_logits: Sequence[Tensor], target_labels: Sequence[Tensor]) -> ClassSums | None:
        alpha_here = weights(cls_logits[0])
        return sigmoid_focal_sums_by_class(cls_logits, target_labels, alpha=alpha_here, gamma=gamma, backend=backend)

    return ClassLoss(
        lambda x, labels, _: sigmoid_focal_loss_per_anchor(x, labels, alpha=weights(x), gamma=gamma),
        lambda x: sigmoid_focal_background_terms(x, alpha=weights(x), gamma=gamma),
        _sigmoid_probabilities,
        all_levels=all_levels,
        by_class=by_class,
    )


def sigmoid_ce_class_loss(*, alpha: Alpha = None, negatives_per_positive: float | None = None) -> ClassLoss:
    """Return :func:`detector.losses.sigmoid_ce_loss` of all anchors or of the hardest ones."""
    weights = _alpha_of(alpha)
    return ClassLoss(
        lambda x, labels, _: sigmoid_ce_loss_per_anchor(x, labels, alpha=weights(x)),
        lambda x: sigmoid_ce_background_terms(x, alpha=weights(x)),
        _sigmoid_probabilities,
        negatives_per_positive=negatives_per_positive,
    )


def focal_star_class_loss(*, alpha: Alpha = None, gamma: float = 2.0, beta: float = 1.0) -> ClassLoss:
    """Return :func:`detector.losses.focal_star_loss`."""
    weights = _alpha_of(alpha)
    return ClassLoss(
        lambda x, labels, _: focal_star_loss_per_anchor(x, labels, alpha=weights(x), gamma=gamma, beta=beta),
        lambda x: focal_star_background_terms(x, alpha=weights(x), gamma=gamma, beta=beta),
        _sigmoid_probabilities,
    )


def quality_focal_class_loss(*, gamma: float = 2.0) -> ClassLoss:
    """Return :func:`detector.losses.quality_focal_loss`."""

    def per_anchor(cls_logits: Tensor, target_labels: Tensor, quality: Tensor | None) -> Tensor:
        assert quality is not None
        return quality_focal_loss_per_anchor(cls_logits, target_labels, quality, gamma=gamma)

    return ClassLoss(
        per_anchor,
        lambda x: quality_focal_background_terms(x, gamma=gamma),
        _sigmoid_probabilities,
        uses_quality=True,
    )


def varifocal_class_loss(*, alpha: float | None = 0.75, gamma: float = 2.0) -> ClassLoss:
    """Return :func:`detector.losses.varifocal_loss`."""

    def per_anchor(cls_logits: Tensor, target_labels: Tensor, quality: Tensor | None) -> Tensor:
        assert quality is not None
        return varifocal_loss_per_anchor(cls_logits, target_labels, quality, alpha=alpha, gamma=gamma)

    return ClassLoss(
        per_anchor,
        lambda x: varifocal_background_terms(x, alpha=alpha, gamma=gamma),
        _sigmoid_probabilities,
        uses_quality=True,
    )


def softmax_ce_class_loss(*, weights: Sequence[float] | None = None) -> ClassLoss:
    """Return :func:`detector.losses.softmax_ce_loss` with K + 1 weights, background last."""
    weights_of = _on_device(weights)
    return _softmax(lambda x, targets: softmax_ce_loss(x, targets, class_weights=weights_of(x), reduction="none"))


def softmax_focal_class_loss(*, weights: Sequence[float] | None = None, gamma: float = 2.0) -> ClassLoss:
    """Return :func:`detector.losses.softmax_focal_loss` with K + 1 weights, background last."""
    weights_of = _on_device(weights)
    return _softmax(
        lambda x, targets: softmax_focal_loss(x, targets, alpha=weights_of(x), gamma=gamma, reduction="none")
    )


def _softmax(per_target: Callable[[Tensor, Tensor], Tensor]) -> ClassLoss:
    """Return a softmax loss as a detector uses it: K classes, and background as the last one.

    Args:
        per_target: logits [..., K + 1] and targets [...], 0 ... K or ``_IGNORED_TARGET``, to losses [...].
    """

    def per_anchor(cls_logits: Tensor, target_labels: Tensor, _quality: Tensor | None) -> Tensor:
        num_classes = cls_logits.shape[-1] - 1
        targets = torch.where(target_labels == BACKGROUND, num_classes, _IGNORED_TARGET)
        return per_target(cls_logits, torch.where(target_labels >= 0, target_labels, targets))

    def background_terms(cls_logits: Tensor) -> Tensor:
        labels = torch.full(cls_logits.shape[:-1], BACKGROUND, device=cls_logits.device)
        # Proportions among the objects, which exist also where background is so sure that all of them round to 0.
        shares = at_least_float32(cls_logits[..., :-1]).softmax(dim=-1)
        return per_anchor(cls_logits, labels, None).unsqueeze(-1) * shares

    return ClassLoss(per_anchor, background_terms, _softmax_probabilities, activation="softmax")


def _sigmoid_probabilities(cls_logits: Tensor) -> Tensor:
    return at_least_float32(cls_logits).sigmoid()


def _softmax_probabilities(cls_logits: Tensor) -> Tensor:
    """Return those of the K classes beside that of background; [..., K + 1] to [..., K]."""
    return at_least_float32(cls_logits).softmax(dim=-1)[..., :-1]


def _alpha_of(alpha: Alpha) -> Callable[[Tensor], float | Tensor | None]:
    """Return a function that gives alpha to logits: numbers of classes as :func:`_on_device`, others as they are."""
    return _on_device(alpha) if isinstance(alpha, Sequence) else lambda _: alpha


def _on_device(numbers: Sequence[float] | None) -> Callable[[Tensor], Tensor | None]:
    """Return a function that gives numbers to logits as a tensor beside them, made once per device, not per step."""
    if numbers is None:
        return lambda _: None

    @cache
    def make(device: torch.device, dtype: torch.dtype) -> Tensor:
        with torch.inference_mode(False):  # an evaluation may come first, and training may not use what it has made
            return torch.tensor(numbers, dtype=dtype, device=device)

    return lambda cls_logits: make(cls_logits.device, torch.promote_types(cls_logits.dtype, torch.float32))
