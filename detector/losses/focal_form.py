"""What the implementations of the fused focal loss are given: its parameters, and what comes from above in backward.

Letters: N images, L levels, Rl anchors of a level, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.losses.sigmoid_terms import Alpha, Weights, alpha_weights, check_gamma
from detector.losses.split import ClassSums, FocalSums
from detector.ops.precision import at_least_float32
from detector.structures import BACKGROUND


@dataclass(frozen=True, slots=True)
class FocalForm:
    """The parameters of the loss, checked.

    Attributes:
        own_weight: weight of the term of an anchor's own class; a number, or [K] in the type of the computation.
        other_weight: weight of the other terms, likewise.
        gamma: focusing exponent.
        dtype: type of the computation, float32 or float64.
    """

    own_weight: Weights
    other_weight: Weights
    gamma: float
    dtype: torch.dtype

    @classmethod
    def of(cls, alpha: Alpha, gamma: float, cls_logits: Tensor) -> "FocalForm":
        """Return the parameters for logits [..., K].

        Raises:
            ValueError: see :func:`detector.losses.sigmoid_terms.alpha_weights`; also if gamma is negative or NaN.
        """
        check_gamma(gamma)
        like = at_least_float32(cls_logits[:0])
        return cls(*alpha_weights(alpha, like), gamma, like.dtype)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The gradient of what is differentiated by the sums.

    Attributes:
        foreground: [N, L].
        background: [N, L].
    """

    foreground: Tensor
    background: Tensor

    def of_level(self, level: int) -> tuple[Tensor, Tensor]:
        """Return both for the images of one level, [N, 1] each."""
        return self.foreground[:, level, None], self.background[:, level, None]


def anchor_factors(target_labels: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Return what the gradient of each anchor is multiplied by; 0 for ignored anchors.

    Args:
        target_labels: [...] int64.
        foreground: factor of anchors that have an object, broadcast against the labels.
        background: factor of ``BACKGROUND`` anchors, likewise.

    Returns:
        [..., 1].
    """
    factors = torch.where(target_labels >= 0, foreground, background)
    return factors.masked_fill_(target_labels < BACKGROUND, 0.0).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class FocalKernels:
    """One implementation.

    Attributes:
        compute: cls_logits (per level [N, Rl, K], any strides), target_labels (per level [N, Rl]), form, gradients and
            upstream to the sums, without a graph. The gradient of the logits, multiplied by ``upstream`` before it is
            rounded to their type, is written into ``gradients``, tensors like the logits, unless that is None.
        scale_: gradients, target_labels and upstream: multiplies the gradients in place, where they are not ready.
        by_class: cls_logits, target_labels and form to the sums by class; None: there is no such function.
    """

    compute: Callable[[Sequence[Tensor], Sequence[Tensor], FocalForm, Sequence[Tensor] | None, Upstream], FocalSums]
    scale_: Callable[[Sequence[Tensor], Sequence[Tensor], Upstream], None]
    by_class: Callable[[Sequence[Tensor], Sequence[Tensor], FocalForm], ClassSums] | None = None
