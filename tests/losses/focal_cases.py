"""Logits and labels of some levels for the focal loss."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from detector.structures import BACKGROUND

CPU: Final = torch.device("cpu")


def make_levels(
    num_classes: int, dtype: torch.dtype, num_anchors: Sequence[int] = (123, 0, 1, 17), kind: str = "mixed"
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits [2, Rl, K] and labels [2, Rl]: of all kinds, or of one kind only."""
    generator = torch.Generator().manual_seed(0)
    only = {"objects": (0, num_classes), "background": (BACKGROUND, 0), "ignored": (-4, BACKGROUND)}
    low, high = only.get(kind, (-3, num_classes))
    logits = [(torch.randn(2, n, num_classes, generator=generator) * 3 - 2).to(dtype) for n in num_anchors]
    labels = [torch.randint(low, high, (2, n), generator=generator) for n in num_anchors]
    if kind == "mixed":  # with many classes nearly all would be objects
        labels = [torch.where(torch.rand(y.shape, generator=generator) < 0.5, BACKGROUND, y) for y in labels]
    return logits, labels
