"""The first step against theory: most wrong set-ups show in the class head's bias or in the first class loss.

At the start every anchor has the outputs that the biases of the last convolutions give (Lin et al. 2017, Sec. 4.1), so
the first class loss follows from the assignment alone: it is the criterion's value for those outputs. Letters: N
images, R anchors, A anchors per cell, C logits per anchor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from detector.criterion import Criterion
from detector.models.heads import initial_cls_bias
from detector.structures import Activation, AnchorTargets, HeadOutputs
from detector.telemetry import Finding

TOLERANCE = 0.35
"""Relative difference that is still taken for the spread of random weights. (Measured: below 0.05 for the shipped
configurations; a forgotten prior is off by a factor of thousands, a wrong normaliser by 10 or more.)"""

BIAS_TOLERANCE = 0.1
"""Difference of a logit to its start that no fresh head has: the biases are set, not drawn."""

PRIOR = "prior"
"""Name of the finding that the prior is missing."""


@dataclass(frozen=True, slots=True)
class InitialLoss:
    """The first class loss, expected and measured.

    Attributes:
        expected: what theory gives.
        measured: what the first step gave.
    """

    expected: float
    measured: float

    @property
    def is_plausible(self) -> bool:
        """Whether the two agree within ``TOLERANCE``."""
        return math.isfinite(self.measured) and abs(self.measured - self.expected) <= TOLERANCE * self.expected


@torch.no_grad()
def expected_initial_cls_loss(
    criterion: Criterion,
    targets: AnchorTargets,
    anchors: Tensor,
    normalizer: Tensor,
    *,
    anchors_per_level: Sequence[int],
    cls_bias: Tensor,
) -> Tensor:
    """Return the class loss of a network whose every anchor has the same logits and the box offsets 0.

    One image at a time, so that it never needs more memory than the training step.

    Args:
        criterion: the losses.
        targets: of N images.
        anchors: [R, 4].
        normalizer: scalar or [N], what the images' sums are divided by.
        anchors_per_level: their sum is R.
        cls_bias: [C] logits, see :func:`detector.models.heads.initial_cls_bias`.

    Returns:
        0-dim tensor; no forward pass of a network was made.
    """
    logits, offsets = cls_bias.to(anchors), anchors.new_zeros(4)
    outputs = HeadOutputs(
        tuple(logits.expand(1, num_anchors, -1) for num_anchors in anchors_per_level),
        tuple(offsets.expand(1, num_anchors, -1) for num_anchors in anchors_per_level),
    )
    parts = []
    for idx, divisor in enumerate(normalizer.expand(len(targets.target_labels))):
        image = AnchorTargets(*(getattr(targets, field.name)[idx : idx + 1] for field in fields(AnchorTargets)))
        parts.append(criterion(outputs, image, anchors, divisor).loss_cls)
    return torch.stack(parts).sum()


def check_prior(cls_bias: Tensor | None, *, num_classes: int, prior: float, activation: Activation) -> Finding | None:
    """Return a finding if the prior is not on a class head that has not been trained yet.

    Args:
        cls_bias: [A * C] bias of the last class convolution; None if it has none.
        num_classes: K.
        prior: pi of the configuration.
        activation: what makes scores of the logits.
    """
    wanted = initial_cls_bias(num_classes, prior, activation)  # [C]
    found = torch.zeros_like(wanted) if cls_bias is None else cls_bias.detach().cpu().float()
    found = found.reshape(-1, len(wanted))
    if bool(((found - wanted).abs() <= BIAS_TOLERANCE).all()):
        return None
    score = float((found.sigmoid() if activation == "sigmoid" else 1 - found.softmax(dim=1)[:, -1]).mean())
    effect = "the loss of the many background anchors drowns the objects" if score > prior else "objects start too low"
    return Finding(
        PRIOR,
        f"the prior is not on the class head: with the bias of cls_subnet.last every anchor starts with a score of "
        f"{score:.2g} instead of model.head.prior = {prior:g}, and {effect}. Set that bias to "
        "detector.models.heads.initial_cls_bias",
    )


def check_first_loss(check: InitialLoss) -> Finding | None:
    """Return a finding if the first class loss of a head with the prior on it is implausible."""
    if check.is_plausible:
        return None
    numbers = f"the first class loss is {check.measured:.4g}, theory gives {check.expected:.4g}"
    if not math.isfinite(check.measured):
        cause = "the network's outputs are not finite; look at the weights it starts from"
    elif check.measured > check.expected:
        cause = (
            "the logits spread too far around the prior: images that are not normalised, or weights that do not fit "
            "model.backbone.norm"
        )
    else:
        cause = "the sums are divided by too much, or terms are left out: look at the criterion and its normaliser"
    return Finding("first_loss", f"{numbers}: {cause}")
