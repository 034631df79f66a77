"""One scene of the demo set: objects of six classes among distractors, on a textured background.

Two pairs of classes cannot be told apart by colour, brightness, contrast or area: ``square`` and ``triangle`` differ
only in their shape, ``striped_disc`` and ``checkered_disc`` only in their texture (``cross`` and ``star`` are drawn
from the same colours as the former). Distractors have those colours and textures too, but no class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from detector.data.demo_set import shapes
from detector.data.demo_set.canvas import Canvas
from detector.data.demo_set.distractors import add_distractor
from detector.data.demo_set.textures import Hue, Pattern, background, paint, random_fill
from detector.structures import Size


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """What the objects of a class have in common.

    Attributes:
        name: the category's.
        outline: makes the outline of area 1.
        pattern: the texture.
        hue: range of the colours.
    """

    name: str
    outline: Callable[[], shapes.Points]
    pattern: Pattern
    hue: Hue


CLASSES: Final = (
    ShapeClass("square", shapes.square, "shaded", (330.0, 420.0)),
    ShapeClass("triangle", shapes.triangle, "shaded", (330.0, 420.0)),
    ShapeClass("striped_disc", shapes.disc, "striped", (260.0, 325.0)),
    ShapeClass("checkered_disc", shapes.disc, "checkered", (260.0, 325.0)),
    ShapeClass("cross", shapes.cross, "shaded", (180.0, 250.0)),
    ShapeClass("star", shapes.star, "shaded", (80.0, 170.0)),
)

CLASS_NAMES: Final = tuple(shape_class.name for shape_class in CLASSES)

EMPTY_SHARE: Final = 0.05
"""Share of the images that show distractors only."""

CROWD_SHARE: Final = 0.05
"""Share of the images with a cluster of tiny objects, annotated as one region."""

MAX_TURN: Final = 0.3
"""Objects are turned by up to this angle in radians, either way."""

MAX_TRIES: Final = 25
"""Places tried for one object before it is left out."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """What is annotated of one object, or of one crowd.

    Attributes:
        class_index: index into ``CLASS_NAMES``.
        visible: [H, W] pixels that show it.
        full_area: pixels it would have unhidden and in an endless image.
        is_crowd: a cluster annotated as one region.
    """

    class_index: int
    visible: npt.NDArray[np.bool_]
    full_area: int
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """A finished picture.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        objects: objects and crowds, back to front; may be empty.
    """

    image: npt.NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    class_index: int
    centre: tuple[float, float]
    size: float


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene; everything about it comes from ``rng``."""
    is_empty = rng.random() < EMPTY_SHARE
    has_crowd = not is_empty and rng.random() < CROWD_SHARE
    canvas = Canvas(background(rng, _random_size(rng)))
    for _ in range(rng.integers(4, 10)):
        add_distractor(canvas, rng)
    classes: list[int] = []
    if not is_empty:
        placed = _add_objects(canvas, rng, int(rng.integers(4, 14)))
        classes = [item.class_index for item in placed]
        if has_crowd:
            classes += _add_crowd(canvas, rng, len(placed) + 1)
        _add_occluders(canvas, rng, placed)
    for _ in range(rng.integers(0, 3)):
        add_distractor(canvas, rng)
    objects = tuple(
        SceneObject(label, canvas.owners == owner, canvas.full_areas[owner], owner > len(placed))
        for owner, label in enumerate(classes, start=1)
    )
    return Scene(_photograph(canvas.pixels, rng), objects)


def object_size(rng: np.random.Generator, class_index: int) -> float:
    """Draw an object's nominal size (square root of its area) in pixels; textured classes need a few pixels more."""
    textured = CLASSES[class_index].pattern != "shaded"
    if rng.random() < 0.42:
        return float(rng.uniform(17, 20.5) if textured else rng.uniform(12, 16.5))
    return float(np.exp(rng.uniform(np.log(18), np.log(70))))


def object_stencil(
    rng: np.random.Generator, class_index: int, size: float, centre: tuple[float, float]
) -> shapes.Stencil:
    """Draw an object's turn and stretch and return its stencil."""
    angle, stretch = rng.uniform(-MAX_TURN, MAX_TURN), rng.uniform(0.9, 1.1)
    outline = CLASSES[class_index].outline()
    return shapes.fill_polygon(shapes.place(outline, size=size, angle=angle, stretch=stretch, centre=centre))


def _random_size(rng: np.random.Generator) -> Size:
    short, long = (int(side) for side in (rng.integers(192, 225), rng.integers(208, 257)))
    short, long = min(short, long), max(short, long)
    return (short, long) if rng.random() < 0.6 else (long, short)


def _add_objects(canvas: Canvas, rng: np.random.Generator, num_objects: int) -> list[_Placed]:
    placed: list[_Placed] = []
    while len(placed) < num_objects:
        if not _add_object(canvas, rng, placed) and len(placed) >= 2:
            break
    return placed


def _add_object(canvas: Canvas, rng: np.random.Generator, placed: list[_Placed]) -> bool:
    class_index = int(rng.integers(len(CLASS_NAMES)))
    size = object_size(rng, class_index)
    for _ in range(MAX_TRIES):
        centre = _random_centre(canvas, rng, size, placed)
        stencil = object_stencil(rng, class_index, size, centre)
        if canvas.accepts(stencil, is_object=True):
            _paint_object(canvas, rng, stencil, class_index, size, owner=len(placed) + 1)
            placed.append(_Placed(class_index, centre, size))
            return True
    return False


def _paint_object(
    canvas: Canvas, rng: np.random.Generator, stencil: shapes.Stencil, class_index: int, size: float, owner: int
) -> None:
    shape_class, behind = CLASSES[class_index], canvas.mean_colour(stencil)
    fill = random_fill(rng, shape_class.pattern, hue=shape_class.hue, size=size, behind=behind)
    canvas.paint(stencil, paint(stencil, fill, rng), owner)


def _random_centre(canvas: Canvas, rng: np.random.Generator, size: float, placed: list[_Placed]) -> tuple[float, float]:
    """Draw a centre: mostly anywhere, sometimes across the border or over another object."""
    height, width = canvas.owners.shape
    x, y = rng.uniform(size / 2, width - size / 2), rng.uniform(size / 2, height - size / 2)
    mode = rng.random()
    if mode < 0.06:
        depth = rng.uniform(-0.05, 0.4) * size
        side = rng.integers(0, 4)
        x = (depth, width - depth, x, x)[side]
        y = (y, y, depth, height - depth)[side]
    elif mode < 0.14 and placed:
        other = placed[rng.integers(len(placed))]
        distance = rng.uniform(0.45, 0.9) * (size + other.size) / 2
        angle = rng.uniform(0, 2 * np.pi)
        x, y = other.centre[0] + distance * np.cos(angle), other.centre[1] + distance * np.sin(angle)
    return float(x), float(y)


def _add_crowd(canvas: Canvas, rng: np.random.Generator, owner: int) -> list[int]:
    """Add a cluster of tiny overlapping objects of one class; return its class, or nothing if no place is free."""
    height, width = canvas.owners.shape
    class_index = CLASS_NAMES.index(str(rng.choice(["square", "triangle", "cross", "star"])))
    spread = rng.uniform(9, 14)
    for _ in range(MAX_TRIES):
        x, y = rng.uniform(3 * spread, width - 3 * spread), rng.uniform(3 * spread, height - 3 * spread)
        region = shapes.fill_polygon(
            shapes.place(shapes.disc(), size=5 * spread, angle=0.0, stretch=1.0, centre=(x, y))
        )
        if canvas.touches_object(region):
            continue
        for _ in range(rng.integers(9, 16)):
            size = rng.uniform(6.5, 9)
            offset = np.clip(rng.normal(0, spread, 2), -2 * spread, 2 * spread)
            stencil = object_stencil(rng, class_index, size, (x + offset[0], y + offset[1]))
            _paint_object(canvas, rng, stencil, class_index, size, owner)
        return [class_index]
    return []


def _add_occluders(canvas: Canvas, rng: np.random.Generator, placed: list[_Placed]) -> None:
    for item in placed:
        if rng.random() < 0.08:
            angle = rng.uniform(0, 2 * np.pi)
            distance = 0.45 * item.size
            centre = (item.centre[0] + distance * np.cos(angle), item.centre[1] + distance * np.sin(angle))
            add_distractor(canvas, rng, centre=centre, size=item.size * rng.uniform(0.4, 0.8))


def _photograph(pixels: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Apply contrast, brightness, blur and sensor noise, and round."""
    image = (pixels - 128) * np.float32(rng.uniform(0.8, 1.1)) + np.float32(128 + rng.uniform(-18, 18))
    sigma = rng.uniform(0.0, 0.9)
    if sigma > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    image = image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 7))
    return np.asarray(np.clip(np.round(image), 0, 255), np.uint8)
