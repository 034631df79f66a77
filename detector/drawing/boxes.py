"""Boxes with their class names on an image, and two pictures side by side."""

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from detector.drawing.colors import Color, class_color
from detector.drawing.tags import Span, blend_text, draw_tags, place_tags
from detector.drawing.text import line_height, readable_name, render_text

Picture = npt.NDArray[np.uint8]

_FRAME: Final[Color] = (32, 32, 32)


def draw_detections(
    image: Picture,
    boxes: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike | None,
    names: Sequence[str],
    *,
    ignore: npt.ArrayLike | None = None,
    zoom: int = 1,
) -> Picture:
    """Draw boxes with their class names, and scores if there are any, on a copy of the image.

    Lines and letters grow with the image. The best detection lies on top; without scores the smallest box does. Tags
    stay inside the image and avoid each other where there is room; in a very small image they are shortened or left
    out. Boxes that are not finite, have no extent to the right and down, or lie outside the image are not drawn.

    Args:
        image: [H, W, 3] uint8, RGB; not changed.
        boxes: [D, 4] xyxy in pixels of the image, continuous; D may be 0. Arrays, lists or tensors on the CPU.
        labels: [D] integers.
        scores: [D] in [0, 1], or None, as for ground truth. A score that is not finite is not written.
        names: class names; a label beyond them is called ``class 7``.
        ignore: [D] bool, True for regions that are neither object nor background: dashed and named "ignore".
        zoom: enlarge the image by this whole number first, for legible tags on small images.

    Returns:
        [H * zoom, W * zoom, 3] uint8, RGB; equal to the image if there are no boxes and ``zoom`` is 1.

    Raises:
        ValueError: if the image or one of the arrays has another shape or type.
    """
    _check_image(image)
    if zoom < 1:
        raise ValueError(f"zoom: expected 1 or more, found {zoom}")
    corners, classes, confidences, dashed = _as_arrays(boxes, labels, scores, ignore)
    picture = image.copy() if zoom == 1 else enlarge(image, zoom)
    rows = zip(classes.tolist(), confidences.tolist(), dashed.tolist(), strict=True)
    texts = [_tag_text(label, score, names, ignored=ignored) for label, score, ignored in rows]
    colors = [class_color(label) for label in classes.tolist()]
    size, order = font_size(*picture.shape[:2]), _front_to_back(corners, confidences)
    draw_labelled_boxes(picture, corners * zoom, texts, colors, dashed, order, tag_size=size)
    return picture


def draw_labelled_boxes(
    picture: Picture,
    boxes: npt.NDArray[np.float64],
    texts: Sequence[str],
    colors: Sequence[Color],
    dashed: npt.NDArray[np.bool_],
    front_to_back: Sequence[int],
    *,
    tag_size: int,
) -> None:
    """Draw boxes with tags into a picture; see :func:`draw_detections`, which chooses texts and colours.

    Args:
        picture: [H, W, 3] uint8, RGB; changed.
        boxes: [D, 4] xyxy in its pixels; those that are not to be seen are left out.
        texts: of the D tags.
        colors: of the D boxes.
        dashed: [D] whether a box's line is dashed.
        front_to_back: numbers of the boxes, the one on top first.
        tag_size: font size in pixels.
    """
    height, width = picture.shape[:2]
    line = line_width(height, width)
    spans = [pixel_span(box, height, width) for box in boxes]
    shown = [(i, span) for i in front_to_back if (span := spans[i]) is not None]
    for i, span in reversed(shown):
        draw_outline(picture, span, colors[i], line, dashed=bool(dashed[i]))
    tags = place_tags([texts[i] for i, _ in shown], [span for _, span in shown], tag_size, (height, width))
    draw_tags(picture, tags, [colors[i] for i, _ in shown], tag_size)


def side_by_side(left: Picture, right: Picture, titles: tuple[str, str]) -> Picture:
    """Put two pictures beside each other, each under its title.

    Args:
        left: [H1, W1, 3] uint8, RGB.
        right: [H2, W2, 3] uint8, RGB; may have another size.
        titles: one line each, cut where it is wider than its picture.

    Returns:
        [max(H1, H2) + caption, W1 + gap + W2, 3] uint8, RGB; dark where there is no picture.
    """
    _check_image(left)
    _check_image(right)
    height = max(left.shape[0], right.shape[0])
    size = font_size(height, max(left.shape[1], right.shape[1]))
    caption, gap = line_height(size) + 4, max(2, size // 4)
    shape = (caption + height, left.shape[1] + gap + right.shape[1], 3)
    picture = np.empty(shape, dtype=np.uint8)
    picture[:] = _FRAME
    x = 0
    for part, title in zip((left, right), titles, strict=True):
        picture[caption : caption + part.shape[0], x : x + part.shape[1]] = part
        mask = render_text(title, size)[:, : max(0, part.shape[1] - 2)]
        blend_text(picture, mask, x + min(4, part.shape[1] - mask.shape[1]), 2, (255, 255, 255))
        x += part.shape[1] + gap
    return picture


def _check_image(image: Picture) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image: expected uint8 [H, W, 3], found {image.dtype} {list(image.shape)}")


def _as_arrays(
    boxes: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike | None, ignore: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    classes = np.asarray(labels, dtype=np.int64)
    confidences = np.full(len(corners), np.nan) if scores is None else np.asarray(scores, dtype=np.float64)
    dashed = np.zeros(len(corners), dtype=np.bool_) if ignore is None else np.asarray(ignore, dtype=np.bool_)
    for name, array in (("labels", classes), ("scores", confidences), ("ignore", dashed)):
        if array.shape != (len(corners),):
            raise ValueError(f"{name}: expected [{len(corners)}] like the boxes, found {list(array.shape)}")
    return corners, classes, confidences, dashed


def enlarge(image: Picture, zoom: int) -> Picture:
    """Return an image at a whole multiple of its size."""
    return np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def line_width(height: int, width: int) -> int:
    """Return the width in pixels of a box's line in a picture of this size."""
    return max(1, round(math.sqrt(height * width) / 300))


def font_size(height: int, width: int) -> int:
    """Return the font size in pixels of tags in a picture of this size."""
    return max(10, round(math.sqrt(height * width) / 42))


def pixel_span(box: npt.NDArray[np.float64], height: int, width: int) -> Span | None:
    """Return the first and one past the last pixel that the box touches, (x1, y1, x2, y2), or None if it is not seen.

    Not clipped to the image, so that a box that continues outside shows no edge at the border, but kept near it.
    """
    if not np.isfinite(box).all() or box[2] < box[0] or box[3] < box[1]:
        return None
    if box[0] >= width or box[1] >= height or box[2] < 0 or box[3] < 0:
        return None
    low = np.floor(np.maximum(box[:2], -width - height)).astype(int)
    high = np.maximum(np.ceil(np.minimum(box[2:], 2 * (width + height))).astype(int), low + 1)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _front_to_back(boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> list[int]:
    with np.errstate(invalid="ignore", over="ignore"):
        areas = np.nan_to_num((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    known = np.nan_to_num(scores, nan=-np.inf, posinf=-np.inf)
    return [int(i) for i in np.lexsort((areas, -known))]


def draw_outline(picture: Picture, span: Span, color: Color, line: int, *, dashed: bool) -> None:
    """Draw a rectangle whose lines lie half outside the box, with a dark rim of a pixel on either side.

    The rim keeps a line visible on a ground of its own colour.
    """
    outside, inside = line // 2, line - line // 2
    dash = max(3, 4 * line) if dashed else 0
    for rows, columns in _ring(span, outside + 1, inside + 1):
        region = picture[rows, columns]
        region[_dashes(region, rows.start + columns.start, dash)] //= 2
    for rows, columns in _ring(span, outside, inside):
        region = picture[rows, columns]
        region[_dashes(region, rows.start + columns.start, dash)] = color


def _ring(span: Span, outside: int, inside: int) -> list[tuple[slice, slice]]:
    """Return the (rows, columns) of the four sides of a frame around the edge of ``span``; they do not overlap."""
    x1, y1, x2, y2 = span
    left, top, right, bottom = x1 - outside, y1 - outside, x2 + outside, y2 + outside
    inner_top = min(y1 + inside, bottom)
    inner_bottom = max(y2 - inside, inner_top)
    inner_left = min(x1 + inside, right)
    inner_right = max(x2 - inside, inner_left)
    sides = (
        (top, inner_top, left, right),
        (inner_bottom, bottom, left, right),
        (inner_top, inner_bottom, left, inner_left),
        (inner_top, inner_bottom, inner_right, right),
    )
    return [(slice(max(0, a), max(0, b)), slice(max(0, c), max(0, d))) for a, b, c, d in sides]


def _dashes(region: Picture, phase: int, dash: int) -> npt.NDArray[np.bool_]:
    """Return [h, w], True where a line of dashes of this length has ink; everywhere if it is 0."""
    if dash == 0:
        return np.ones(region.shape[:2], dtype=np.bool_)
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    on: npt.NDArray[np.bool_] = ((rows + columns + phase) // dash) % 2 == 0
    return on


def _tag_text(label: int, score: float, names: Sequence[str], *, ignored: bool) -> str:
    name = readable_name(names[label] if 0 <= label < len(names) else "", label)
    if ignored:
        return f"{name} (ignore)"
    return f"{name} {score:.2f}" if np.isfinite(score) else name
