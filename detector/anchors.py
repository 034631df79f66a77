"""Anchors of the pyramid levels.

Letters: L levels, A anchors per cell, R = sum of Hl * Wl * A.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from detector.config import AnchorConfig
from detector.structures import Size

STRIDES: Final = (8, 16, 32, 64, 128)
"""Pixels per cell of P3 ... P7."""


def build_anchor_generator(config: AnchorConfig) -> "AnchorGenerator":
    """Return the generator that a configuration describes."""
    return AnchorGenerator(
        sizes=config.sizes, scales=config.scales, aspect_ratios=config.aspect_ratios, offset=config.offset
    )


def make_cell_anchors(size: float, scales: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Return the anchors of one cell, centred at the origin.

    An aspect ratio r = height / width keeps the area: height = s sqrt(r), width = s / sqrt(r) for side s. Unlike
    torchvision, nothing is rounded.

    Args:
        size: side of the square anchor at scale 1, in pixels.
        scales: factors on the side.
        aspect_ratios: height / width.

    Returns:
        [A, 4] float32 xyxy; the aspect ratio is the outer, the scale the inner order (as in torchvision).
    """
    sides = [
        (size * scale / math.sqrt(ratio), size * scale * math.sqrt(ratio))
        for ratio in aspect_ratios
        for scale in scales
    ]
    return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides], dtype=torch.float32)


class AnchorGenerator:
    """Lays the cell anchors over the grid of every level; results are cached per feature shapes and device.

    Args:
        sizes: L sides in pixels, one per level.
        scales: factors on the side within a level.
        aspect_ratios: height / width within a level.
        strides: L pixels per cell, finest level first.
        offset: centre of a cell's anchors in strides from the cell's top left corner, in [0, 1).

    Raises:
        ValueError: if ``sizes`` and ``strides`` differ in number.
    """

    def __init__(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        scales: Sequence[float] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] = STRIDES,
        offset: float = 0.0,
    ) -> None:
        if len(sizes) != len(strides):
            raise ValueError(f"one size per level is needed: {len(sizes)} sizes for {len(strides)} strides")
        self.strides = tuple(strides)
        self.offset = offset
        self.cell_anchors = tuple(make_cell_anchors(size, scales, aspect_ratios) for size in sizes)
        self._cache: dict[tuple[object, ...], Tensor] = {}

    @property
    def num_per_cell(self) -> int:
        """A, anchors per cell."""
        return len(self.cell_anchors[0])

    def feature_shapes(self, image_size: Size) -> tuple[Size, ...]:
        """Return (Hl, Wl) of every level for a padded input: each halving of the network rounds up."""
        height, width = image_size
        return tuple((-(-height // stride), -(-width // stride)) for stride in self.strides)

    def __call__(self, shapes: Sequence[Size], device: torch.device | str = "cpu") -> Tensor:
        """Return the anchors of all levels.

        Args:
            shapes: L feature shapes (Hl, Wl), finest level first.
            device: where the anchors are wanted.

        Returns:
            [R, 4] float32 xyxy pixels of the network's input, in the order (level, y, x, anchor of the cell): the order
            of the rows of ``HeadOutputs``. Shared and cached: do not write to it.

        Raises:
            ValueError: if the number of shapes is not the number of levels.
        """
        if len(shapes) != len(self.strides):
            raise ValueError(f"one shape per level is needed: {len(shapes)} shapes for {len(self.strides)} levels")
        key = (tuple(shapes), torch.device(device))
        if key not in self._cache:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.pop(next(iter(self._cache)))
            levels = zip(shapes, self.strides, self.cell_anchors, strict=True)
            # An evaluation may ask first, in inference mode; autograd could not save its tensors in training.
            with torch.inference_mode(False):
                self._cache[key] = torch.cat([self._grid(*level) for level in levels]).to(device)
        return self._cache[key]

    def _grid(self, shape: Size, stride: int, cell_anchors: Tensor) -> Tensor:
        height, width = shape
        y = (torch.arange(height, dtype=torch.float32) + self.offset) * stride
        x = (torch.arange(width, dtype=torch.float32) + self.offset) * stride
        y, x = torch.meshgrid(y, x, indexing="ij")
        centers = torch.stack((x, y, x, y), dim=-1)  # [H, W, 4]
        return (centers.unsqueeze(2) + cell_anchors).reshape(-1, 4)


_MAX_CACHED: Final = 64
"""Feature shapes kept at once. At 800 x 1344 one entry takes 3.2 MB; multi-scale training meets a few dozen shapes."""
