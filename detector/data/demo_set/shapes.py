"""Outlines of the demo set's objects and distractors, and their rasterised stencils.

Every outline has area 1 and its centroid at the origin, so that objects of one nominal size cover the same number of
pixels whatever their class: area tells nothing about the class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""[P, 2] (x, y) corners of a polygon or of a polyline."""

SUPERSAMPLING: Final = 4
"""Stencils are drawn this many times larger and averaged: edges get 17 grey levels per axis."""


@dataclass(frozen=True, slots=True)
class Stencil:
    """How much of each pixel a shape covers, in a window that may reach over the image's border.

    Attributes:
        alpha: [h, w] float32 in [0, 1].
        x: image column of the window's left edge; may be negative.
        y: image row of the window's top edge; may be negative.
    """

    alpha: npt.NDArray[np.float32]
    x: int
    y: int

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[h, w] pixels that belong to the shape: at least half covered."""
        return self.alpha >= 0.5


def unit_area(points: Points) -> Points:
    """Return the polygon moved to centroid 0 and scaled to area 1 (shoelace formula)."""
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    cross = x * next_y - next_x * y
    area = cross.sum() / 2
    centroid = np.array([((x + next_x) * cross).sum(), ((y + next_y) * cross).sum()]) / (6 * area)
    return np.asarray((points - centroid) / np.sqrt(abs(area)))


def regular_polygon(num_corners: int) -> Points:
    """Return a regular polygon of area 1, one corner up; 48 corners pass for a disc."""
    angles = np.arange(num_corners) * (2 * np.pi / num_corners) - np.pi / 2
    return unit_area(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def square() -> Points:
    """Return the unit square."""
    return np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


def triangle() -> Points:
    """Return an equilateral triangle of area 1."""
    return regular_polygon(3)


def disc() -> Points:
    """Return a disc of area 1."""
    return regular_polygon(48)


def cross() -> Points:
    """Return a plus sign of area 1; its bars are a third of its width."""
    quarter = np.array([[1.0, -3.0], [1.0, -1.0], [3.0, -1.0]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    corners = [quarter @ np.linalg.matrix_power(turn, k) for k in range(4)]
    return unit_area(np.concatenate(corners))


def star() -> Points:
    """Return a five-pointed star of area 1."""
    angles = np.arange(10) * (np.pi / 5) - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.43)
    return unit_area(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def half_disc() -> Points:
    """Return half a disc of area 1."""
    angles = np.linspace(0, np.pi, 25)
    return unit_area(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def corner_piece() -> Points:
    """Return an L of area 1: a cross with two arms missing."""
    return unit_area(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0], [3.0, 2.0], [3.0, 3.0], [0.0, 3.0]]))


def crescent() -> Points:
    """Return a crescent of area 1."""
    outer = np.linspace(0.2 * np.pi, 1.8 * np.pi, 25)
    inner = outer[::-1]
    points = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([0.75 * np.cos(inner) + 0.35, 0.85 * np.sin(inner)], axis=1),
        ]
    )
    return unit_area(points)


def bar(rng: np.random.Generator) -> Points:
    """Return a rectangle of area 1, three to six times as long as wide."""
    return unit_area(square() * np.array([rng.uniform(3, 6), 1.0]))


def blob(rng: np.random.Generator) -> Points:
    """Return a smooth, lumpy closed curve of area 1."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radii = np.ones_like(angles)
    for order in range(2, 6):
        radii += rng.uniform(0.05, 0.45 / order) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    return unit_area(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1))


def place(points: Points, *, size: float, angle: float, stretch: float, centre: tuple[float, float]) -> Points:
    """Return an outline at its place in the image.

    Args:
        points: [P, 2] outline of area 1.
        size: square root of the area wanted, in pixels.
        angle: rotation in radians.
        stretch: factor on x before the rotation, and 1 / factor on y: the area stays.
        centre: (x, y) of the centroid in pixels.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    stretched = points * np.array([stretch, 1 / stretch]) * size
    return np.asarray(stretched @ np.array([[cos, sin], [-sin, cos]]) + np.array(centre))


def fill_polygon(points: Points) -> Stencil:
    """Return the stencil of a closed polygon given in image pixels."""
    return _rasterise([points], 0.0, lambda canvas, lines: cv2.fillPoly(canvas, lines, 255))


def draw_strokes(lines: Sequence[Points], thickness: float) -> Stencil:
    """Return the stencil of open polylines given in image pixels, drawn ``thickness`` pixels wide."""
    width = max(1, round(thickness * SUPERSAMPLING))
    return _rasterise(lines, thickness, lambda canvas, lines: cv2.polylines(canvas, lines, False, 255, width))


def _rasterise(
    lines: Sequence[Points],
    margin: float,
    draw: Callable[[npt.NDArray[np.uint8], list[npt.NDArray[np.int32]]], object],
) -> Stencil:
    corners = np.concatenate(list(lines))
    low = np.floor(corners.min(axis=0) - margin).astype(int) - 1
    high = np.ceil(corners.max(axis=0) + margin).astype(int) + 1
    width, height = (int(extent) for extent in high - low)
    canvas = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # A fine pixel's centre lies half a fine pixel from its edge.
    draw(canvas, [np.round((line - low) * SUPERSAMPLING - 0.5).astype(np.int32) for line in lines])
    alpha = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return Stencil((alpha / np.float32(255)).astype(np.float32), int(low[0]), int(low[1]))
