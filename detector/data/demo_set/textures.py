"""Colours and textures: what fills a stencil, and backgrounds.

A texture is a pattern of mean 0 and standard deviation 1 over its stencil, times a contrast, around a middle colour.
Two shapes filled with the same contrast and middle colour therefore have the same mean and variance in every channel,
whatever their pattern.
"""

import colorsys
import math
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from detector.data.demo_set.shapes import SUPERSAMPLING, Stencil

Image = npt.NDArray[np.float32]
"""[H, W, 3] RGB in [0, 255], not yet rounded."""

Hue = tuple[float, float]
"""Range of hues in degrees."""

ANY_HUE: Final[Hue] = (0.0, 360.0)

Pattern = Literal["shaded", "striped", "checkered", "speckled"]

MIN_CONTRAST: Final = 75.0
"""RGB distance between an object's middle colour and the mean of what it covers; keeps every object discernible."""

MAX_TURN: Final = 0.35
"""Stripes run up and down, and checks along the axes, but for a turn of up to this angle in radians, either way."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How a stencil is coloured.

    Attributes:
        pattern: the texture.
        colour: [3] RGB mean.
        amplitude: [3] RGB standard deviation (with a sign: channels may vary against each other).
        cell: width of one stripe in pixels.
        angle: direction of the texture in radians.
        phase: [2] offset of the texture in cells.
    """

    pattern: Pattern
    colour: npt.NDArray[np.float64]
    amplitude: npt.NDArray[np.float64]
    cell: float
    angle: float
    phase: npt.NDArray[np.float64]


def random_fill(
    rng: np.random.Generator, pattern: Pattern, *, hue: Hue, size: float, behind: npt.NDArray[np.float64]
) -> Fill:
    """Draw a fill; the draws and their distribution are the same for every pattern but for the amplitude.

    Args:
        rng: source of all randomness.
        pattern: the texture.
        hue: range of the middle colour's hue.
        size: square root of the shape's area in pixels; textures scale with it.
        behind: [3] mean colour of what the shape will cover.
    """
    colour = _random_colour(rng, hue, saturation=(0.45, 0.65), value=(0.45, 0.8))
    for _ in range(12):
        if np.linalg.norm(colour - behind) >= MIN_CONTRAST:
            break
        colour = _random_colour(rng, hue, saturation=(0.45, 0.65), value=(0.45, 0.8))
    strong = pattern in ("striped", "checkered")
    tone = rng.uniform(32, 44) if strong else rng.uniform(4, 12)
    amplitude = tone * rng.choice([-1.0, 1.0]) * rng.uniform(0.75, 1.1, 3)
    cell = float(np.clip(size * rng.uniform(0.19, 0.26), 3.5, 12.0))
    return Fill(pattern, colour, amplitude, cell, rng.uniform(-MAX_TURN, MAX_TURN), rng.uniform(0, 2, 2))


def _random_colour(
    rng: np.random.Generator, hue: Hue, *, saturation: tuple[float, float], value: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Draw [3] RGB in [0, 255] from ranges of hue (degrees, may pass 360), saturation and value."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue) / 360 % 1, rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb) * 255


def paint(stencil: Stencil, fill: Fill, rng: np.random.Generator) -> Image:
    """Return the [h, w, 3] colours of a stencil's window (its alpha is not applied)."""
    pattern = _standardised(_pattern(stencil, fill, rng), stencil.alpha)
    return fill.colour.astype(np.float32) + pattern[..., None] * fill.amplitude.astype(np.float32)


def _pattern(stencil: Stencil, fill: Fill, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    height, width = stencil.alpha.shape
    if fill.pattern == "speckled":
        return value_noise(rng, (height, width), cell=max(2.0, fill.cell))
    if fill.pattern == "shaded":
        return _rotated_grid((height, width), fill.angle)[0]
    # Checks of sqrt(2) stripe widths have their main frequency where the stripes have theirs, so that blur and JPEG
    # take as much contrast from the one as from the other.
    cell = fill.cell * math.sqrt(2) if fill.pattern == "checkered" else fill.cell
    fine_size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    along, across = _rotated_grid(fine_size, fill.angle, step=1 / (SUPERSAMPLING * cell))
    tiles = np.floor(along + float(fill.phase[0])).astype(np.int32)
    if fill.pattern == "checkered":
        tiles += np.floor(across + float(fill.phase[1])).astype(np.int32)
    fine = (tiles & 1).astype(np.float32)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA))


def _standardised(pattern: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    total = max(float(weights.sum()), 1e-6)
    centred = pattern - float((pattern * weights).sum()) / total
    deviation = np.sqrt(float((centred**2 * weights).sum()) / total)
    return np.asarray(centred / max(deviation, 1e-6), np.float32)


def value_noise(rng: np.random.Generator, size: tuple[int, int], *, cell: float) -> npt.NDArray[np.float32]:
    """Return [H, W] smooth noise of variance about 1 whose bumps are ``cell`` pixels wide."""
    height, width = size
    grid = rng.standard_normal((int(height / cell) + 2, int(width / cell) + 2), dtype=np.float32)
    large = cv2.resize(grid, (round(grid.shape[1] * cell), round(grid.shape[0] * cell)), interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(0, max(1, int(cell)), 2)
    return np.asarray(large[top : top + height, left : left + width])


def background(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Return a textured background: up to three regions, each with its own colour, noise, gradient and pattern."""
    image = _material(rng, size)
    height, width = size
    for _ in range(rng.integers(0, 3)):
        middle = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height)
        along, _ = _rotated_grid(size, rng.uniform(0, 2 * math.pi), through=middle)
        share = np.clip(along / rng.uniform(1, 12) + 0.5, 0, 1)[..., None]
        image += (_material(rng, size) - image) * share
    return image


def _material(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    grey = np.zeros(size, np.float32)
    for cell in (64, 24, 9, 4):
        grey += value_noise(rng, size, cell=cell) * (rng.uniform(0.2, 1.0) * cell**0.25)
    grey *= rng.uniform(5, 13) / max(float(grey.std()), 1e-6)
    if rng.random() < 0.5:
        along, across = _rotated_grid(size, rng.uniform(0, math.pi))
        frequency = 2 * math.pi / rng.uniform(5, 20)
        wave = np.sin(along * frequency)
        if rng.random() < 0.5:
            wave *= np.sin(across * frequency)
        grey += wave * rng.uniform(3, 10)
    grey += np.linspace(-1, 1, size[0], dtype=np.float32)[:, None] * rng.uniform(-22, 22)
    grey += np.linspace(-1, 1, size[1], dtype=np.float32) * rng.uniform(-22, 22)
    tint = value_noise(rng, size, cell=48)[..., None] * rng.uniform(-8, 8, 3).astype(np.float32)
    image = grey[..., None] * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    image += tint
    image += _random_colour(rng, ANY_HUE, saturation=(0.0, 0.35), value=(0.25, 0.85)).astype(np.float32)
    return image


def _rotated_grid(
    size: tuple[int, int], angle: float, *, through: tuple[float, float] = (0.0, 0.0), step: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return [H, W] coordinates along and across a direction, 0 at the point ``through``; pixels are ``step`` apart."""
    xs = np.arange(size[1], dtype=np.float32) * step - float(through[0])
    ys = np.arange(size[0], dtype=np.float32)[:, None] * step - float(through[1])
    cos, sin = math.cos(angle), math.sin(angle)
    return xs * cos + ys * sin, ys * cos - xs * sin
