"""Pictures with captions, and many of them on one sheet."""

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from detector.drawing.boxes import Picture
from detector.drawing.tags import blend_text
from detector.drawing.text import line_height, render_text

_GROUND: Final = (32, 32, 32)
_INK: Final = (255, 255, 255)
_MARGIN: Final = 4


def with_caption(picture: Picture, lines: Sequence[str], font_size: int) -> Picture:
    """Return a picture under lines of text, each cut where it is wider than the picture.

    Args:
        picture: [H, W, 3] uint8 RGB.
        lines: of the caption.
        font_size: in pixels.

    Returns:
        [H + caption, W, 3] uint8 RGB.
    """
    row = line_height(font_size)
    caption = np.full((row * len(lines) + 2 * _MARGIN, picture.shape[1], 3), _GROUND, dtype=np.uint8)
    for number, line in enumerate(lines):
        mask = render_text(line, font_size)[:, : max(0, picture.shape[1] - 2 * _MARGIN)]
        blend_text(caption, mask, min(_MARGIN, picture.shape[1] - mask.shape[1]), _MARGIN + number * row, _INK)
    return np.concatenate([caption, picture])


def contact_sheet(
    pictures: Sequence[Picture], captions: Sequence[Sequence[str]], *, cell_width: int = 560, font_size: int = 14
) -> Picture:
    """Put pictures side by side in rows, each made as wide as a cell, under its caption.

    Args:
        pictures: at least one, [H, W, 3] uint8 RGB each.
        captions: the lines of each.
        cell_width: in pixels.
        font_size: in pixels.

    Returns:
        [H, W, 3] uint8 RGB: about as high as wide, in at most four columns.
    """
    cells = [
        with_caption(_to_width(picture, cell_width), lines, font_size)
        for picture, lines in zip(pictures, captions, strict=True)
    ]
    num_columns = min(4, math.ceil(math.sqrt(len(cells))))
    rows = [cells[first : first + num_columns] for first in range(0, len(cells), num_columns)]
    gap = 2 * _MARGIN
    height = sum(max(cell.shape[0] for cell in row) + gap for row in rows) - gap
    sheet = np.full((height, num_columns * (cell_width + gap) - gap, 3), _GROUND, dtype=np.uint8)
    y = 0
    for row in rows:
        for column, cell in enumerate(row):
            x = column * (cell_width + gap)
            sheet[y : y + cell.shape[0], x : x + cell_width] = cell
        y += max(cell.shape[0] for cell in row) + gap
    return sheet


def _to_width(picture: Picture, width: int) -> Picture:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    interpolation = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), dtype=np.uint8)
