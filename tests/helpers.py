"""Small functions that several tests use."""

import torch
from torch import Generator, Tensor

from detector.structures import Size


def random_boxes(n: int, generator: Generator, size: Size = (128, 128)) -> Tensor:
    """[n, 4] float32 boxes (xyxy pixels) inside an image of ``size``, each at least 1 pixel wide and high."""
    height, width = size
    scale = torch.tensor([width - 1, height - 1], dtype=torch.float32)
    first, second = (torch.rand(n, 2, generator=generator) * scale for _ in range(2))
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second) + 1], dim=1)
