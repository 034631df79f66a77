"""Sizes, scales and aspect ratios of anchors, and the lines of a configuration that set them.

Letters: L levels, A anchors per cell, S = L * A shapes.
"""

import math
import shlex
from dataclasses import dataclass

import numpy as np

from detector.config import AnchorConfig
from detector.inspect.anchor_grid import Floats


@dataclass(frozen=True, slots=True)
class AnchorShapes:
    """Anchors of a cell on every level, as in ``model.anchors``.

    Attributes:
        sizes: L sides in pixels, finest level first.
        scales: factors on the side, within each level.
        aspect_ratios: height / width, within each level.
    """

    sizes: tuple[float, ...]
    scales: tuple[float, ...]
    aspect_ratios: tuple[float, ...]

    @property
    def num_per_cell(self) -> int:
        """A, anchors per cell."""
        return len(self.scales) * len(self.aspect_ratios)

    def sides(self) -> Floats:
        """[S, 2] (width, height) in pixels, level by level."""
        return np.array(
            [
                (size * scale / math.sqrt(ratio), size * scale * math.sqrt(ratio))
                for size in self.sizes
                for ratio in self.aspect_ratios
                for scale in self.scales
            ]
        )

    def in_order(self) -> "AnchorShapes":
        """Return the same anchors with scales from 1 on and everything rising."""
        least = min(self.scales)
        return AnchorShapes(
            sizes=tuple(size * least for size in self.sizes),
            scales=tuple(sorted(scale / least for scale in self.scales)),
            aspect_ratios=tuple(sorted(self.aspect_ratios)),
        )


def build_shapes(config: AnchorConfig) -> AnchorShapes:
    """Return the anchors that a configuration describes."""
    return AnchorShapes(config.sizes, config.scales, config.aspect_ratios)


def round_shapes(shapes: AnchorShapes) -> AnchorShapes:
    """Return anchors with as few digits as change no IoU by more than a few hundredths."""
    return AnchorShapes(
        sizes=tuple(round(size, 0 if size >= 20 else 1) for size in shapes.sizes),
        scales=tuple(float(f"{scale:.3g}") for scale in shapes.scales),
        aspect_ratios=tuple(float(f"{ratio:.2g}") for ratio in shapes.aspect_ratios),
    )


def changed_lists(current: AnchorShapes, shapes: AnchorShapes) -> dict[str, str]:
    """Return what differs as YAML, such as ``[16, 32, 64, 128, 256]``, by its name in ``model.anchors``."""
    names = ("sizes", "scales", "aspect_ratios")
    rounded = round_shapes(current)
    return {
        name: f"[{', '.join(f'{value:g}' for value in getattr(shapes, name))}]"
        for name in names
        if getattr(shapes, name) != getattr(rounded, name)
    }


def override_line(changes: dict[str, str]) -> str:
    """Return the changes as overrides for a command line, quoted for any shell."""
    return " ".join(shlex.quote(f"model.anchors.{name}={text.replace(' ', '')}") for name, text in changes.items())


def yaml_lines(changes: dict[str, str]) -> str:
    """Return the changes as lines of a configuration file."""
    return "\n".join(["model:", "  anchors:", *(f"    {name}: {text}" for name, text in changes.items())])
