"""Things of no class: open arcs, strokes, bars, blobs and half shapes in the colours and textures of the objects."""

from typing import Final

import numpy as np

from detector.data.demo_set import shapes
from detector.data.demo_set.canvas import Canvas
from detector.data.demo_set.textures import ANY_HUE, Pattern, paint, random_fill

STROKES: Final = ("arc", "line", "writing")
SOLIDS: Final = ("bar", "blob", "half_disc", "corner_piece", "crescent", "plain_disc", "hexagon")
MAX_TRIES: Final = 6

ROUND_BELOW: Final = 28.0
"""Blobs and hexagons smaller than this, in pixels, cannot be told from a disc."""


def add_distractor(
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    centre: tuple[float, float] | None = None,
    size: float | None = None,
) -> None:
    """Paint one distractor where it leaves every object recognisable, or nothing if no place is found.

    Args:
        canvas: the picture.
        rng: source of all randomness.
        centre: (x, y) in pixels; anywhere by default.
        size: square root of a solid's area in pixels, about the extent of strokes; random by default.
    """
    height, width = canvas.owners.shape
    size = float(np.exp(rng.uniform(np.log(11), np.log(60)))) if size is None else size
    for _ in range(MAX_TRIES):
        x, y = centre or (rng.uniform(0, width), rng.uniform(0, height))
        name = str(rng.choice(STROKES if rng.random() < 0.35 else SOLIDS))
        stencil = _strokes(rng, name, (x, y), size) if name in STROKES else _solid(rng, name, (x, y), size)
        if canvas.accepts(stencil, is_object=False):
            behind = canvas.mean_colour(stencil)
            fill = random_fill(rng, _pattern(rng, name, size), hue=ANY_HUE, size=size, behind=behind)
            canvas.paint(stencil, paint(stencil, fill, rng))
            return


def _pattern(rng: np.random.Generator, name: str, size: float) -> Pattern:
    """Draw a pattern, but none that would make the distractor look like one of the textured discs."""
    looks_like_disc = name == "plain_disc" or (name in ("blob", "hexagon") and size < ROUND_BELOW)
    patterns: tuple[Pattern, ...] = ("shaded", "speckled", "striped", "checkered")
    return patterns[int(rng.integers(2 if looks_like_disc or name in STROKES else 4))]


def _solid(rng: np.random.Generator, name: str, centre: tuple[float, float], size: float) -> shapes.Stencil:
    match name:
        case "bar":
            outline = shapes.bar(rng)
        case "blob":
            outline = shapes.blob(rng)
        case "half_disc":
            outline = shapes.half_disc()
        case "corner_piece":
            outline = shapes.corner_piece()
        case "crescent":
            outline = shapes.crescent()
        case "plain_disc":
            outline = shapes.disc()
        case _:
            outline = shapes.regular_polygon(6)
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15)
    return shapes.fill_polygon(shapes.place(outline, size=size, angle=angle, stretch=stretch, centre=centre))


def _strokes(rng: np.random.Generator, name: str, centre: tuple[float, float], size: float) -> shapes.Stencil:
    middle = np.array(centre)
    angle = rng.uniform(0, 2 * np.pi)
    thickness = float(np.clip(size * rng.uniform(0.06, 0.16), 1.2, 5.0))
    match name:
        case "arc":
            angles = np.linspace(angle, angle + rng.uniform(1.2, 5.0), 32)
            lines = [middle + 0.55 * size * np.stack([np.cos(angles), np.sin(angles)], axis=1)]
        case "line":
            reach = rng.uniform(0.5, 1.6) * size * np.array([np.cos(angle), np.sin(angle)])
            lines = [np.stack([middle - reach, middle + rng.normal(0, 0.1 * size, 2), middle + reach])]
        case _:
            lines = _writing(rng, middle, size * 0.45, tilt=rng.uniform(-0.3, 0.3))
            thickness = min(thickness, 2.0)
    return shapes.draw_strokes(lines, thickness)


def _writing(rng: np.random.Generator, start: shapes.Points, height: float, *, tilt: float) -> list[shapes.Points]:
    """Return a few zigzag letters side by side."""
    height = max(6.0, min(height, 16.0))
    along = np.array([np.cos(tilt), np.sin(tilt)])
    letters = []
    for place in range(int(rng.integers(3, 7))):
        corners = rng.uniform(0, 1, (int(rng.integers(3, 6)), 2)) * np.array([0.6, 1.0]) * height
        turned = corners @ np.array([[along[0], along[1]], [-along[1], along[0]]])
        letters.append(start + along * (0.8 * height * place) + turned)
    return letters
