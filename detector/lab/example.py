"""The worked example of why the focal loss is needed: many easy negatives against a few hard positives.

The example is that of github.com/Stephenfang51/Focal_loss_turtorial. Its text says 10,000 negatives, its sums use
100,000; its logarithms are to base 10, which changes every loss by the same factor and no share.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detector.losses import sigmoid_focal_loss
from detector.structures import BACKGROUND


@dataclass(frozen=True, slots=True)
class ExampleGroup:
    """Equal examples under one loss.

    Attributes:
        count: how many there are.
        p_t: probability that each gives to the right answer.
        factor: modulating factor (1 - p_t)^gamma; 1 under cross-entropy.
        weight: alpha_t; 1 under cross-entropy.
        loss: of one example.
        sum: of all.
    """

    count: int
    p_t: float
    factor: float
    weight: float
    loss: float
    sum: float


@dataclass(frozen=True, slots=True)
class ExampleSide:
    """Negatives and positives under one loss.

    Attributes:
        name: of the loss.
        negatives: the easy ones.
        positives: the hard ones.
    """

    name: str
    negatives: ExampleGroup
    positives: ExampleGroup

    @property
    def total(self) -> float:
        """Loss of all examples."""
        return self.negatives.sum + self.positives.sum

    @property
    def positive_share(self) -> float:
        """Part of the total that the positives hold."""
        return self.positives.sum / self.total if self.total else math.nan


def worked_example(
    *,
    num_negatives: int = 100_000,
    num_positives: int = 10,
    negative_p_t: float = 0.95,
    positive_p_t: float = 0.05,
    gamma: float = 2.0,
    alpha: float = 0.25,
    log_base: float = 10.0,
) -> tuple[ExampleSide, ExampleSide]:
    """Compute the example with the program's own focal loss in float64.

    Args:
        num_negatives: background examples.
        num_positives: examples with an object.
        negative_p_t: probability of "background" that each negative has, in (0, 1).
        positive_p_t: probability of "object" that each positive has, in (0, 1).
        gamma: focusing exponent of the focal loss, >= 0.
        alpha: its weight of the positives, in [0, 1]; the negatives' is 1 - alpha.
        log_base: of the logarithm; 10 as in the tutorial, e as in the paper.

    Returns:
        The example under cross-entropy and under the focal loss.

    Raises:
        ValueError: if a value is out of its range.
    """
    for name, p_t in (("negative_p_t", negative_p_t), ("positive_p_t", positive_p_t)):
        if not 0 < p_t < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {p_t}")
    if min(num_negatives, num_positives) < 0:
        raise ValueError(f"counts must be >= 0, got {num_negatives} and {num_positives}")
    if not (log_base > 0 and log_base != 1):
        raise ValueError(f"log_base must be positive and not 1, got {log_base}")

    def side(name: str, gamma: float, alpha: float | None) -> ExampleSide:
        return ExampleSide(
            name,
            negatives=_group(num_negatives, negative_p_t, BACKGROUND, gamma, alpha, log_base),
            positives=_group(num_positives, positive_p_t, 0, gamma, alpha, log_base),
        )

    return side("cross-entropy", 0.0, None), side("focal loss", gamma, alpha)


def format_example(sides: Sequence[ExampleSide]) -> str:
    """Lay out the example as a table; several lines without a newline at the end."""
    rows = [["", "examples", "p_t", "(1-p_t)^γ", "α_t", "loss of one", "sum", "share"]]
    for side in sides:
        for name, group in (("easy negatives", side.negatives), ("hard positives", side.positives)):
            share = group.sum / side.total if side.total else math.nan
            numbers = [f"{group.count:,}", f"{group.p_t:g}", f"{group.factor:.6g}", f"{group.weight:g}"]
            rows.append([f"{side.name}: {name}", *numbers, _number(group.loss), _number(group.sum), f"{share:.4f}"])
        rows.append([f"{side.name}: total", *[""] * 5, _number(side.total), ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _group(count: int, p_t: float, label: int, gamma: float, alpha: float | None, log_base: float) -> ExampleGroup:
    x_t = torch.logit(torch.tensor(p_t, dtype=torch.float64))
    x = x_t if label >= 0 else -x_t  # a negative's p_t is 1 - sigmoid(x) = sigmoid(-x)

    def loss(count: int, gamma: float, alpha: float | None) -> float:
        foreground, background = sigmoid_focal_loss(
            x.expand(count, 1), torch.full((count,), label), alpha=alpha, gamma=gamma
        )
        return float(foreground + background) / math.log(log_base)

    return ExampleGroup(
        count=count,
        p_t=p_t,
        factor=loss(1, gamma, None) / loss(1, 0.0, None),
        weight=1.0 if alpha is None else alpha if label >= 0 else 1 - alpha,
        loss=loss(1, gamma, alpha),
        sum=loss(count, gamma, alpha),
    )


def _number(value: float) -> str:
    """Write five digits."""
    return f"{value:.5g}" if 1e-4 <= abs(value) < 1e5 else f"{value:.4e}"
