"""Where the tags with class names go, and how they are painted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.drawing.colors import Color, text_color
from detector.drawing.text import Mask, line_height, render_text
from detector.structures import Size

Span = tuple[int, int, int, int]
"""First and one past the last pixel, (x1, y1, x2, y2)."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A filled rectangle with text.

    Attributes:
        span: pixels of the rectangle, inside the image.
        text: as it fits, perhaps shortened.
    """

    span: Span
    text: str


def place_tags(texts: Sequence[str], boxes: Sequence[Span], font_size: int, image_size: Size) -> list[Tag | None]:
    """Find a place for each tag: above its box, else below it, else inside its upper corner, moved into the image.

    The first of these places that no earlier tag takes is chosen; if all are taken, the first.

    Args:
        texts: one per box, most important first.
        boxes: pixels of the boxes; may reach outside the image.
        font_size: in pixels.
        image_size: (height, width).

    Returns:
        One per box; None where the image is too small for even a few letters.
    """
    height, width = image_size
    tag_height, pad = line_height(font_size), _padding(font_size)
    tags: list[Tag | None] = []
    taken = np.zeros((0, 4), dtype=np.int64)
    for text, (x1, y1, x2, y2) in zip(texts, boxes, strict=True):
        shown = _shortened(text, font_size, width - 2 * pad)
        if not shown or 2 * tag_height > height:
            tags.append(None)
            continue
        tag_width = render_text(shown, font_size).shape[1] + 2 * pad
        places = []
        for x, y in ((x1, y1 - tag_height), (x1, y2), (x1, y1), (x2 - tag_width, y1 - tag_height)):
            left, top = min(max(x, 0), width - tag_width), min(max(y, 0), height - tag_height)
            places.append((left, top, left + tag_width, top + tag_height))
        free = [place for place in places if not _overlaps_any(place, taken)]
        span = (free or places)[0]
        taken = np.concatenate([taken, np.array([span])])
        tags.append(Tag(span, shown))
    return tags


def draw_tags(
    picture: npt.NDArray[np.uint8], tags: Sequence[Tag | None], colors: Sequence[Color], font_size: int
) -> None:
    """Paint the tags into the picture, the last one first, so that the most important lies on top.

    Args:
        picture: [H, W, 3] uint8, RGB; changed.
        tags: as :func:`place_tags` returns them.
        colors: of the tags' ground, one per tag; the letters are black or white.
        font_size: in pixels, the one that the tags were placed with.
    """
    for tag, color in reversed(list(zip(tags, colors, strict=True))):
        if tag is not None:
            x1, y1, x2, y2 = tag.span
            picture[y1:y2, x1:x2] = color
            mask = render_text(tag.text, font_size)
            blend_text(picture, mask, x1 + _padding(font_size), y1, text_color(color))


def blend_text(picture: npt.NDArray[np.uint8], mask: Mask, x: int, y: int, color: Color) -> None:
    """Paint the text of a mask (0 ... 255) in a colour, its upper left corner at (x, y); it must lie inside."""
    region = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    coverage = mask[..., None].astype(np.float32) / 255
    region[:] = np.rint(region * (1 - coverage) + np.array(color, dtype=np.float32) * coverage).astype(np.uint8)


def _padding(font_size: int) -> int:
    return max(2, font_size // 5)


def _shortened(text: str, font_size: int, width: int) -> str:
    """Return the text, or as much of its beginning as fits; empty if not even two letters do."""
    fewest = min(2, len(text))
    for end in range(len(text), fewest - 1, -1):
        if render_text(text[:end], font_size).shape[1] <= width:
            return text[:end]
    return ""


def _overlaps_any(span: Span, taken: npt.NDArray[np.int64]) -> bool:
    x1, y1, x2, y2 = span
    overlapping = (taken[:, 0] < x2) & (taken[:, 2] > x1) & (taken[:, 1] < y2) & (taken[:, 3] > y1)
    return bool(overlapping.any())
