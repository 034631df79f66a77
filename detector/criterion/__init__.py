"""From raw outputs and targets to the losses, and the split of the class loss into foreground and background.

The only place where losses are normalised.
"""

from detector.criterion.building import build_class_loss, build_criterion
from detector.criterion.class_loss import ClassLoss
from detector.criterion.class_losses import sigmoid_focal_class_loss
from detector.criterion.criterion import Criterion
from detector.criterion.normalizer import LossNormalizer, NormalizerMode
from detector.criterion.result import ClassDetail, Losses
from detector.criterion.validation import ValidationLosses

__all__ = [
    "ClassDetail",
    "ClassLoss",
    "Criterion",
    "LossNormalizer",
    "Losses",
    "NormalizerMode",
    "ValidationLosses",
    "build_class_loss",
    "build_criterion",
    "sigmoid_focal_class_loss",
]
