"""The first class loss against the value that theory gives: most wrong set-ups show in it.

At the start every score is the prior pi, so the loss follows from the numbers of anchors alone. With
T = alpha (1 - pi)^gamma (-log pi) for an anchor's own class and B = (1 - alpha) pi^gamma (-log(1 - pi)) for every other
term, the class loss is (F (T + (K - 1) B) + G K B) / normaliser for F foreground and G background anchors.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from detector.models.heads import prior_bias

TOLERANCE = 0.35
"""Relative difference that is still taken for the spread of random weights. (Measured: below 0.05 for the shipped
configurations; a forgotten prior is off by a factor of thousands, a wrong normaliser by 10 or more.)"""


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


def expected_initial_cls_loss(
    num_foreground: Tensor,
    num_background: Tensor,
    normalizer: Tensor | float,
    *,
    num_classes: int,
    prior: float,
    alpha: float | None,
    gamma: float,
) -> Tensor:
    """Return the class loss of a network whose every score is the prior.

    Args:
        num_foreground: [N] F, anchors with an object in each image.
        num_background: [N] G, background anchors in each image.
        normalizer: scalar or [N], what the images' sums are divided by.
        num_classes: K.
        prior: pi, in (0, 1).
        alpha: of the focal loss; None = unweighted.
        gamma: of the focal loss.

    Returns:
        0-dim tensor.
    """
    own = (1.0 if alpha is None else alpha) * (1 - prior) ** gamma * -math.log(prior)
    other = (1.0 if alpha is None else 1 - alpha) * prior**gamma * -math.log(1 - prior)
    foreground = num_foreground * (own + (num_classes - 1) * other)
    total: Tensor = ((foreground + num_background * (num_classes * other)) / normalizer).sum()
    return total


def likely_cause(check: InitialLoss, cls_bias: Tensor, prior: float) -> str:
    """Return a warning for an implausible first class loss that names the likely cause and what to do.

    Args:
        check: the two losses.
        cls_bias: bias of the last class convolution.
        prior: pi of the configuration.
    """
    numbers = f"the first class loss is {check.measured:.4g}, theory gives {check.expected:.4g}"
    bias = float(cls_bias.detach().float().mean())
    wanted = prior_bias(prior)
    if not math.isfinite(check.measured):
        return f"{numbers}: the network's outputs are not finite; look at the weights it starts from"
    if abs(bias - wanted) > 0.1:
        return (
            f"{numbers}: the class head's last bias is {bias:.2f}, but the prior {prior} means {wanted:.2f}; "
            "the prior is not on the class head"
        )
    if check.measured > check.expected:
        return (
            f"{numbers}: the prior is on the class head, so the logits spread too far: images that are not normalised, "
            "or weights that do not fit model.backbone.norm"
        )
    return f"{numbers}: the prior is on the class head, so the sums are divided by too much: look at loss.normalizer"
