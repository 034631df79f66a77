"""Text as a coverage mask, for class names of any script.

OpenCV 5 carries a font for Latin, Greek, Cyrillic, Hebrew, Arabic, Chinese, Japanese and Korean; with OpenCV 4, whose
own letters are ASCII only, Pillow's built-in font is used, which has no more than ASCII but is better to read.
"""

import unicodedata
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Mask = npt.NDArray[np.uint8]

_WEIGHT: Final = 550  # between regular and semibold: small letters on a coloured tag stay legible


def readable_name(name: str, label: int) -> str:
    """Return the class name as far as the font can show it.

    A character without a glyph is replaced by its ASCII base (e for an accented e); symbols such as emoji are left
    out. If letters would be lost the whole name gives way to ``class 7``, which is less pretty but not misleading.

    Args:
        name: any string, also empty or with line breaks.
        label: the class's index, for the case that the name cannot be shown.
    """
    shown = []
    for char in unicodedata.normalize("NFC", " ".join(name.split())):
        base = char if has_glyph(char) else unicodedata.normalize("NFKD", char)
        known = "".join(c for c in base if has_glyph(c))
        if not known and char.isalpha():
            return f"class {label}"
        shown.append(known)
    return " ".join("".join(shown).split()) or f"class {label}"


@lru_cache(maxsize=4096)
def has_glyph(char: str) -> bool:
    """Tell whether the font shows the character as itself (a missing glyph looks like every other missing one)."""
    if char.isascii():
        return char.isprintable()
    mask = render_text(char, 24)
    return mask.shape[1] > 0 and not any(np.array_equal(mask, render_text(gap, 24)) for gap in ("?", "\U000ffffd"))


@lru_cache(maxsize=1024)
def render_text(text: str, size: int) -> Mask:
    """Render one line of text.

    Args:
        text: what to write; empty or blank gives a mask without columns.
        size: font size in pixels, about the height from the deepest descender to the highest capital.

    Returns:
        [line_height(size), W] read-only, 0 (no ink) ... 255; tight left and right, the baseline at the same row for
        every text.
    """
    # FreeType crashes over halves of surrogate pairs, which stand for bytes of file names that are no UTF-8.
    text = "".join("?" if "\ud800" <= character <= "\udfff" or character < " " else character for character in text)
    canvas = _opencv_mask(text, size) if hasattr(cv2, "FontFace") else _pillow_mask(text, size)
    inked = np.flatnonzero(canvas.any(axis=0))
    mask = canvas[:, inked[0] : inked[-1] + 1].copy() if inked.size else canvas[:, :0].copy()
    mask.flags.writeable = False
    return mask


def line_height(size: int) -> int:
    """Return the height in pixels of a line of text of this font size."""
    return round(1.3 * size) + 2


def _baseline(size: int) -> int:
    # Both fonts reach at most 1.0 size above the baseline (an A with a ring) and 0.3 below it.
    return size + 1


def _opencv_mask(text: str, size: int) -> Mask:
    font = cv2.FontFace("sans")
    canvas = np.zeros((line_height(size), 2 * size * (len(text) + 2)), dtype=np.uint8)
    # A glyph is at most about one size wide: the canvas has twice that, so the text is never wrapped or cut.
    cv2.putText(canvas, text, (size, _baseline(size)), (255,), font, size, _WEIGHT)
    return canvas


def _pillow_mask(text: str, size: int) -> Mask:
    font = ImageFont.load_default(size)
    canvas = Image.new("L", (2 * size * (len(text) + 2), line_height(size)))
    ImageDraw.Draw(canvas).text((size, _baseline(size)), text, fill=255, font=font, anchor="ls")
    return np.array(canvas, dtype=np.uint8)
