"""Loss and gradient against p_t, as the program's own focal loss computes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detector.lab.ablation_grid import short
from detector.losses import sigmoid_focal_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss_per_anchor

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LossCurves:
    """Focal losses of one object's logit x, at rising p_t = sigmoid(x).

    Attributes:
        p_t: [P] in (0, 1).
        losses: by name, such as ``γ 2, α .25``, [P] each.
        gradients: by the same names, [P] each: absolute derivative by x.
    """

    p_t: FloatArray
    losses: dict[str, FloatArray]
    gradients: dict[str, FloatArray]


def loss_curves(gammas: Sequence[float], alphas: Sequence[float | None] = (None,), num_points: int = 999) -> LossCurves:
    """Compute the focal loss and its gradient for every gamma with every alpha.

    Args:
        gammas: focusing exponents, >= 0; 0 is cross-entropy.
        alphas: weights of an object's term, in [0, 1]; None = no weights, and not named.
        num_points: P, evenly spaced between 0 and 1 without the ends.

    Raises:
        ValueError: if a gamma or an alpha is out of range.
    """
    p_t = torch.arange(1, num_points + 1, dtype=torch.float64) / (num_points + 1)
    losses, gradients = {}, {}
    for gamma in gammas:
        for alpha in alphas:
            name = f"γ {short(gamma)}" + ("" if alpha is None else f", α {short(alpha)}")
            losses[name], gradients[name] = _curve(p_t, gamma, alpha)
    return LossCurves(p_t.numpy(), losses, gradients)


def _curve(p_t: Tensor, gamma: float, alpha: float | None) -> tuple[FloatArray, FloatArray]:
    logits = torch.logit(p_t).unsqueeze(-1).requires_grad_()  # [P, 1]: P anchors with an object of the only class
    labels = torch.zeros(len(p_t), dtype=torch.int64)
    loss = sigmoid_focal_loss_per_anchor(logits, labels, alpha=alpha, gamma=gamma)
    foreground, _ = sigmoid_focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    (gradient,) = torch.autograd.grad(foreground, logits)  # of the sum: each anchor's own
    return loss.detach().numpy(), gradient.squeeze(-1).abs().numpy()
