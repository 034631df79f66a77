"""What the box losses are made of, from plain numbers, one pair at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.helpers import random_boxes


@dataclass(frozen=True, slots=True)
class Pair:
    """One pair of boxes: overlap, hull, centres and aspect ratios."""

    iou: float
    union: float
    hull: float
    distance_squared: float
    diagonal_squared: float
    v: float


def pairs_by_hand(boxes: Tensor, targets: Tensor) -> Iterator[Pair]:
    for (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) in zip(boxes.tolist(), targets.tolist(), strict=True):
        common = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
        union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
        hull_width, hull_height = max(ax2, bx2) - min(ax1, bx1), max(ay2, by2) - min(ay1, by1)
        angle_shift = math.atan((bx2 - bx1) / (by2 - by1)) - math.atan((ax2 - ax1) / (ay2 - ay1))
        yield Pair(
            iou=common / union,
            union=union,
            hull=hull_width * hull_height,
            distance_squared=((ax1 + ax2 - bx1 - bx2) / 2) ** 2 + ((ay1 + ay2 - by1 - by2) / 2) ** 2,
            diagonal_squared=hull_width**2 + hull_height**2,
            v=4 / math.pi**2 * angle_shift**2,
        )


def by_hand(boxes: Tensor, targets: Tensor, loss: Callable[[Pair], float]) -> Tensor:
    return torch.tensor([loss(pair) for pair in pairs_by_hand(boxes, targets)], dtype=torch.float64)


def random_pairs(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Boxes with gradient and targets; some overlap and some do not."""
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (random_boxes(n, generator).to(dtype) for _ in range(2))
    return boxes.requires_grad_(), targets


def touching_pairs() -> tuple[Tensor, Tensor]:
    """Boxes that share a side, a part of one, or a corner only; and one inside the other with a common side."""
    box = [10.0, 10.0, 20.0, 30.0]
    targets = [[20.0, 10.0, 40.0, 30.0], [12.0, 30.0, 16.0, 35.0], [0.0, 0.0, 10.0, 10.0], [10.0, 15.0, 15.0, 25.0]]
    return torch.tensor([box] * len(targets), requires_grad=True), torch.tensor(targets)


def assert_same_value_and_gradient(
    actual: Callable[[Tensor, Tensor], Tensor],
    expected: Callable[[Tensor, Tensor], Tensor],
    boxes: Tensor,
    targets: Tensor,
) -> None:
    losses = actual(boxes, targets), expected(boxes, targets)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
    weight = torch.linspace(0.5, 1.5, losses[0].numel(), dtype=boxes.dtype)  # a gradient of its own for every box
    gradients = [torch.autograd.grad((loss * weight).sum(), boxes)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
