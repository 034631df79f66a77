"""The criterion that a configuration describes."""

import torch

from detector.config import ClsLossConfig, LossConfig
from detector.criterion.class_loss import ClassLoss
from detector.criterion.class_losses import (
    focal_star_class_loss,
    quality_focal_class_loss,
    sigmoid_ce_class_loss,
    sigmoid_focal_class_loss,
    softmax_ce_class_loss,
    softmax_focal_class_loss,
    varifocal_class_loss,
)
from detector.criterion.criterion import Criterion
from detector.errors import UserError
from detector.losses.focal_backend import FocalBackend
from detector.ops.triton_support import triton_hindrance


def build_criterion(config: LossConfig, num_classes: int, device: torch.device | None = None) -> Criterion:
    """Return the criterion that a configuration describes.

    Args:
        config: ``loss`` of the configuration.
        num_classes: K, real classes without background.
        device: where it will compute, to check ``loss.backend`` for; None: not known.

    Raises:
        UserError: if ``loss.cls.alpha`` is a list that does not fit the classes, or ``loss.backend`` is triton and
            cannot compute there.
    """
    if config.backend == "triton" and device is not None and (hindrance := triton_hindrance(device)):
        raise UserError(f"loss.backend: triton was asked for, but {hindrance}; use loss.backend=auto or eager")
    return Criterion(
        class_loss=build_class_loss(config.cls, num_classes, backend=config.backend),
        box_loss=config.box.name,
        box_beta=config.box.beta,
        box_weight=config.box.weight,
    )


def build_class_loss(config: ClsLossConfig, num_classes: int, *, backend: FocalBackend = "auto") -> ClassLoss:
    """Return the class loss that a configuration describes; see :func:`build_criterion`.

    Args:
        config: ``loss.cls`` of the configuration.
        num_classes: K, real classes without background.
        backend: what computes the sigmoid focal loss.

    Raises:
        UserError: if ``loss.cls.alpha`` is a list that does not fit the classes.
    """
    gamma = config.gamma
    match config.name:
        case "sigmoid_focal":
            return sigmoid_focal_class_loss(alpha=_alpha(config, num_classes), gamma=gamma, backend=backend)
        case "sigmoid_ce":
            return sigmoid_ce_class_loss(alpha=_alpha(config, num_classes))
        case "focal_star":
            return focal_star_class_loss(alpha=_alpha(config, num_classes), gamma=gamma, beta=config.beta)
        case "quality_focal":
            return quality_focal_class_loss(gamma=gamma)
        case "varifocal":
            assert not isinstance(config.alpha, tuple)  # the schema has refused that
            return varifocal_class_loss(alpha=config.alpha, gamma=gamma)
        case "ohem":
            return sigmoid_ce_class_loss(negatives_per_positive=config.negatives_per_positive)
        case "softmax_ce":
            return softmax_ce_class_loss(weights=_weights(config, num_classes))
        case "softmax_focal":
            return softmax_focal_class_loss(weights=_weights(config, num_classes), gamma=gamma)


def _alpha(config: ClsLossConfig, num_classes: int) -> float | tuple[float, ...] | None:
    """Return alpha of a sigmoid loss."""
    if isinstance(config.alpha, tuple) and len(config.alpha) != num_classes:
        raise UserError(
            f"loss.cls.alpha: a list of {len(config.alpha)}, but the data has {num_classes} classes; "
            f"{config.name} takes one number for all, or one for each class"
        )
    return config.alpha


def _weights(config: ClsLossConfig, num_classes: int) -> tuple[float, ...] | None:
    """Return the K + 1 weights of a softmax loss; one alpha is the pair alpha for objects, 1 - alpha for background."""
    if isinstance(config.alpha, float):
        return (*[config.alpha] * num_classes, 1 - config.alpha)
    if config.alpha is not None and len(config.alpha) != num_classes + 1:
        raise UserError(
            f"loss.cls.alpha: a list of {len(config.alpha)}, but the data has {num_classes} classes; {config.name} "
            f"takes one number for all objects, or {num_classes + 1}: one for each class and, last, one for background"
        )
    return config.alpha
