"""The losses on sigmoids with some of their arguments, each beside its formula in plain Python, and inputs for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from detector.losses import focal_star_loss, quality_focal_loss, sigmoid_ce_loss, sigmoid_focal_loss, varifocal_loss
from detector.losses.focal_star import focal_star_background_terms, focal_star_loss_per_anchor
from detector.losses.quality_focal import quality_focal_background_terms, quality_focal_loss_per_anchor
from detector.losses.sigmoid_ce import sigmoid_ce_background_terms, sigmoid_ce_loss_per_anchor
from detector.losses.sigmoid_focal import sigmoid_focal_background_terms, sigmoid_focal_loss_per_anchor
from detector.losses.varifocal import varifocal_background_terms, varifocal_loss_per_anchor
from detector.structures import BACKGROUND, IGNORE

NUM_CLASSES = 5
ALPHA_OF_CLASS = [0.0, 0.25, 0.5, 0.9, 1.0]

Alpha = float | list[float] | None


@dataclass(frozen=True)
class SigmoidLoss:
    """One loss with its arguments; `term` is what one logit adds, by hand: of (x, class, is own class, quality)."""

    name: str
    sums: Callable[..., tuple[Tensor, Tensor]]
    per_anchor: Callable[..., Tensor]
    background_terms: Callable[[Tensor], Tensor]
    term: Callable[[float, int, bool, float], float]
    uses_quality: bool = False

    def targets(self, labels: Tensor, quality: Tensor) -> tuple[Tensor, ...]:
        """Return what follows the logits in a call."""
        return (labels, quality) if self.uses_quality else (labels,)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def alpha_of(alpha: Alpha, k: int, is_own: bool) -> float:
    alpha_of_class = alpha[k] if isinstance(alpha, list) else alpha
    return 1.0 if alpha_of_class is None else alpha_of_class if is_own else 1 - alpha_of_class


def spell(alpha: Alpha) -> str:
    return "per_class" if isinstance(alpha, list) else str(alpha)


def focal(alpha: Alpha, gamma: float) -> SigmoidLoss:
    def term(x: float, k: int, is_own: bool, quality: float) -> float:
        p_t = sigmoid(x) if is_own else 1 - sigmoid(x)
        return -alpha_of(alpha, k, is_own) * (1 - p_t) ** gamma * math.log(p_t)

    functions = (sigmoid_focal_loss, sigmoid_focal_loss_per_anchor, sigmoid_focal_background_terms)
    return SigmoidLoss(
        f"focal-{spell(alpha)}-{gamma}", *(partial(f, alpha=alpha, gamma=gamma) for f in functions), term
    )


def cross_entropy(alpha: Alpha) -> SigmoidLoss:
    def term(x: float, k: int, is_own: bool, quality: float) -> float:
        return -alpha_of(alpha, k, is_own) * math.log(sigmoid(x) if is_own else 1 - sigmoid(x))

    functions = (sigmoid_ce_loss, sigmoid_ce_loss_per_anchor, sigmoid_ce_background_terms)
    return SigmoidLoss(f"ce-{spell(alpha)}", *(partial(f, alpha=alpha) for f in functions), term)


def focal_star(alpha: Alpha, gamma: float, beta: float) -> SigmoidLoss:
    def term(x: float, k: int, is_own: bool, quality: float) -> float:
        p_t_star = sigmoid(gamma * (x if is_own else -x) + beta)
        return -alpha_of(alpha, k, is_own) * math.log(p_t_star) / gamma

    functions = (focal_star_loss, focal_star_loss_per_anchor, focal_star_background_terms)
    arguments = {"alpha": alpha, "gamma": gamma, "beta": beta}
    return SigmoidLoss(f"star-{spell(alpha)}-{gamma}-{beta}", *(partial(f, **arguments) for f in functions), term)


def quality_focal(gamma: float) -> SigmoidLoss:
    def term(x: float, k: int, is_own: bool, quality: float) -> float:
        p, y = sigmoid(x), quality if is_own else 0.0
        return -(abs(y - p) ** gamma) * ((1 - y) * math.log(1 - p) + y * math.log(p))

    functions = (quality_focal_loss, quality_focal_loss_per_anchor, quality_focal_background_terms)
    return SigmoidLoss(f"quality-{gamma}", *(partial(f, gamma=gamma) for f in functions), term, uses_quality=True)


def varifocal(alpha: float | None, gamma: float) -> SigmoidLoss:
    def term(x: float, k: int, is_own: bool, quality: float) -> float:
        p = sigmoid(x)
        if is_own and quality > 0:
            return -quality * (quality * math.log(p) + (1 - quality) * math.log(1 - p))
        return -(1.0 if alpha is None else alpha) * p**gamma * math.log(1 - p)

    functions = (varifocal_loss, varifocal_loss_per_anchor, varifocal_background_terms)
    arguments = {"alpha": alpha, "gamma": gamma}
    return SigmoidLoss(
        f"varifocal-{alpha}-{gamma}", *(partial(f, **arguments) for f in functions), term, uses_quality=True
    )


LOSSES = [
    focal(0.25, 2.0),
    focal(None, 0.5),
    focal(ALPHA_OF_CLASS, 2.0),
    cross_entropy(None),
    cross_entropy(0.75),
    cross_entropy(ALPHA_OF_CLASS),
    focal_star(None, 2.0, 1.0),
    focal_star(0.25, 4.0, 0.0),
    focal_star(ALPHA_OF_CLASS, 0.5, -1.0),
    quality_focal(0.0),
    quality_focal(0.5),
    quality_focal(2.0),
    varifocal(0.75, 2.0),
    varifocal(None, 0.5),
]


def random_case(num_anchors: int = 60, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 logits [R, 5], labels [R] of all kinds, and qualities [R], of which some are 0 and some 1."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_anchors, NUM_CLASSES, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(IGNORE, NUM_CLASSES, (num_anchors,), generator=generator)
    quality = (torch.rand(num_anchors, generator=generator, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)
    assert {IGNORE, BACKGROUND, *range(NUM_CLASSES)} == set(labels.tolist())
    assert {0.0, 1.0} < set(quality[labels >= 0].tolist())
    return logits, labels, quality


def sums_by_hand(loss: SigmoidLoss, logits: Tensor, labels: Tensor, quality: Tensor) -> tuple[float, float]:
    """The sums over foreground and background, term by term."""
    foreground = background = 0.0
    for row, label, q in zip(logits.tolist(), labels.tolist(), quality.tolist(), strict=True):
        anchor_loss = sum(loss.term(x, k, k == label, q) for k, x in enumerate(row))
        if label >= 0:
            foreground += anchor_loss
        elif label == BACKGROUND:
            background += anchor_loss
    return foreground, background


def one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """[..., K] targets of the logits' type: 1 at an object's own class, 0 elsewhere."""
    return (labels.unsqueeze(-1) == torch.arange(logits.shape[-1])).to(logits.dtype)


def grad(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]
