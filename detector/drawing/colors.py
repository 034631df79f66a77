"""One fixed colour per class, and black or white text to go on it."""

import colorsys
from functools import lru_cache
from typing import Final

Color = tuple[int, int, int]
"""RGB, each in [0, 255]."""

_OKABE_ITO: Final[tuple[Color, ...]] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""Okabe and Ito 2008, "Color Universal Design": told apart with any colour vision; without their black."""

_GOLDEN_RATIO: Final = 0.618033988749895
# Searched for: the first 20 colours, with those above, are at least 25 apart in CIE Lab, where 2.3 is just noticeable.
# All are light, because boxes have a dark rim: that keeps a light line visible anywhere, a dark line not on shadows.
_FIRST_HUE: Final = 0.2
_LIGHTNESS: Final = (0.6, 0.7, 0.8)


@lru_cache(maxsize=1024)
def class_color(label: int) -> Color:
    """Return the colour of a class, the same in every picture and every run.

    The first seven are the Okabe-Ito colours, which people with a colour vision deficiency tell apart as well. Later
    ones step through the hues by the golden ratio, so that neighbouring labels never look alike, and change lightness
    at every step.

    Args:
        label: class in [0, K); any integer gives a colour.
    """
    if 0 <= label < len(_OKABE_ITO):
        return _OKABE_ITO[label]
    red, green, blue = colorsys.hls_to_rgb((label * _GOLDEN_RATIO + _FIRST_HUE) % 1.0, _LIGHTNESS[label % 3], 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Return black or white, whichever has the higher contrast on the background (at least 4.5 : 1).

    The contrast is that of the Web Content Accessibility Guidelines 2.1, (L1 + 0.05) / (L2 + 0.05) of the relative
    luminances.
    """
    luminance = relative_luminance(background)
    return (0, 0, 0) if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else (255, 255, 255)


def relative_luminance(color: Color) -> float:
    """Return the luminance in [0, 1] of an sRGB colour (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
