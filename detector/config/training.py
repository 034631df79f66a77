"""Schema of ``loss``, ``optimizer``, ``schedule`` and ``ema``."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detector.config.base import Auto, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section

ClsLossName = Literal[
    "sigmoid_focal", "sigmoid_ce", "focal_star", "quality_focal", "varifocal", "ohem", "softmax_ce", "softmax_focal"
]

_ACTING_KEYS: dict[ClsLossName, tuple[str, ...]] = {
    "sigmoid_focal": ("alpha", "gamma"),
    "sigmoid_ce": ("alpha",),
    "focal_star": ("alpha", "gamma", "beta"),
    "quality_focal": ("gamma",),
    "varifocal": ("alpha", "gamma"),
    "ohem": ("negatives_per_positive",),
    "softmax_ce": ("alpha",),
    "softmax_focal": ("alpha", "gamma"),
}
"""What each class loss reads; the other keys change nothing."""

_PER_CLASS: tuple[ClsLossName, ...] = ("sigmoid_focal", "sigmoid_ce", "focal_star", "softmax_ce", "softmax_focal")
"""Class losses whose alpha may be a list."""


class ClsLossConfig(Section):
    """The classification loss. Its parameters stand side by side: each loss reads some of them."""

    name: ClsLossName = "sigmoid_focal"
    """sigmoid_focal: alpha_t (1 - p_t)^gamma (-log p_t) over every anchor and class; sigmoid_ce: the same without
    gamma; focal_star: the paper's FL*; quality_focal, varifocal: the target is the IoU of the decoded box; ohem:
    cross-entropy of the hardest anchors; softmax_ce, softmax_focal: K classes and background exclude each other
    (`model.head.activation: softmax`)."""
    alpha: Fraction | Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] | None = 0.25
    """Weight of the object terms; 1 - alpha is that of the others (varifocal: of all terms but the object's; its paper
    takes 0.75). null = no weights (1 for all). Also a list: with sigmoid_* and focal_star one alpha for each class,
    with softmax_* the weight of each class and, last, of background."""
    gamma: NonNegativeFloat = 2.0
    """Focusing exponent; 0 is cross-entropy."""
    beta: float = 1.0
    """focal_star: shift of the logits, sigmoid(gamma x_t + beta)."""
    negatives_per_positive: NonNegativeFloat = 3.0
    """ohem: background anchors kept for each foreground anchor of the image."""

    @property
    def activation(self) -> Literal["sigmoid", "softmax"]:
        """What the loss makes probabilities with; `model.head.activation` must be the same."""
        return "softmax" if self.name in ("softmax_ce", "softmax_focal") else "sigmoid"

    @property
    def acting_keys(self) -> tuple[str, ...]:
        """The parameters that the chosen loss reads."""
        return _ACTING_KEYS[self.name]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "focal_star" and self.gamma == 0:
            raise ValueError("loss.cls.gamma: focal_star divides by it, so 0 is impossible; its paper takes 2 or 4")
        if isinstance(self.alpha, tuple) and "alpha" in self.acting_keys:
            if self.name not in _PER_CLASS:
                raise ValueError(
                    f"loss.cls.alpha: {self.name} takes one number or null, found a list; "
                    f"{', '.join(_PER_CLASS)} take a list"
                )
            if self.activation == "sigmoid" and max(self.alpha) > 1:
                raise ValueError(
                    f"loss.cls.alpha: {self.name} takes numbers from 0 to 1 (the other terms weigh 1 - alpha), "
                    f"found {max(self.alpha):g}"
                )
        return self


class BoxLossConfig(Section):
    """The box regression loss, over foreground anchors."""

    name: Literal["smooth_l1", "l1", "iou", "giou", "diou", "ciou"] = "smooth_l1"
    """smooth_l1 or l1 on the encoded offsets; 1 - IoU, or that with the term of GIoU, DIoU or CIoU, on the decoded
    boxes."""
    beta: NonNegativeFloat = 0.0
    """smooth_l1: below this difference the loss is quadratic; 0 is plain L1."""
    weight: NonNegativeFloat = 1.0
    """Factor on the box loss in the total."""


class LossConfig(Section):
    """Losses and what they are divided by."""

    cls: ClsLossConfig = ClsLossConfig()
    """Classification."""
    box: BoxLossConfig = BoxLossConfig()
    """Box regression."""
    normalizer: Literal["batch", "image", "ema"] = "batch"
    """batch: sum over all images and processes / their foreground anchors; image: mean over images of sum / its
    foreground anchors (paper, torchvision); ema: like batch with a running mean of the count (detectron2)."""
    backend: Literal["auto", "eager", "triton"] = "auto"
    """What computes the sigmoid focal loss: plain torch operations, or Triton's kernels on a GPU; auto: triton where it
    can. The other class losses are always eager. With `compile: step` torch's compiler computes it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.backend == "triton" and self.cls.name != "sigmoid_focal":
            raise ValueError(
                f"loss.backend: triton computes loss.cls.name sigmoid_focal only, found {self.cls.name}; "
                "expected auto or eager"
            )
        return self


class OptimizerConfig(Section):
    """Optimiser. A learning rate that is a number is used as written and never rescaled."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""
    lr: Auto | PositiveFloat = 0.01
    """Peak learning rate, for `data.batch_size` images per step; auto = derived from the optimiser and the batch, with
    the reason printed at the start."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's running averages."""
    weight_decay: NonNegativeFloat = 1e-4
    """L2 penalty (SGD) or decoupled decay (AdamW)."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also acts on normalisation parameters and biases."""
    clip_grad_norm: PositiveFloat | None = None
    """Gradients are scaled down to this total norm; null = off."""

    @property
    def resolved_lr(self) -> float:
        """`lr` as a number, which :func:`detector.engine.recipe.resolve_recipe` puts in place of auto."""
        if self.lr == "auto":
            raise ValueError("optimizer.lr is auto; expected a number")
        return self.lr


class ScheduleConfig(Section):
    """Length of the run and the course of the learning rate."""

    name: Literal["multistep", "cosine"] = "multistep"
    """multistep: times `decay_factor` at each milestone; cosine: down to `min_factor` at the end."""
    max_steps: Auto | PositiveInt | None = None
    """Optimiser steps; auto = derived from the number of images. Exactly one of `max_steps` and `epochs`."""
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Passes over the training images; with `data.repeat_thresh`, over as many as an epoch then deals."""
    warmup_steps: Auto | NonNegativeInt = 1000
    """Steps over which the learning rate rises linearly from `warmup_factor` times its value; auto = a tenth of the
    run, at most 1000."""
    warmup_factor: Fraction = 0.001
    """Factor at step 0."""
    milestones: tuple[PositiveInt, ...] = ()
    """multistep: steps at which the learning rate falls."""
    milestones_epochs: tuple[PositiveFloat, ...] = ()
    """The same in epochs."""
    decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """multistep: factor at each milestone."""
    min_factor: Fraction = 0.0
    """cosine: factor at the end."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            found = "both are set" if self.epochs is not None else "neither is set"
            raise ValueError(f"schedule: exactly one of schedule.max_steps and schedule.epochs is needed, {found}")
        if self.milestones and self.milestones_epochs:
            raise ValueError("schedule: give schedule.milestones or schedule.milestones_epochs, not both")
        for key in ("milestones", "milestones_epochs"):
            values = getattr(self, key)
            if list(values) != sorted(set(values)):
                raise ValueError(f"schedule.{key}: {list(values)} must rise")
        return self


class EmaConfig(Section):
    """A moving average of the weights, evaluated and saved beside them."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Weight of the old average per step; null = off. Early on it is (1 + step) / (10 + step) where that is less."""
