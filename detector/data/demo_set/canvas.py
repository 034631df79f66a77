"""The picture in the making: pixels, and which object each pixel shows."""

from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.demo_set.shapes import Stencil
from detector.data.demo_set.textures import Image

NO_OBJECT: Final = 0
"""Owner of pixels that show the background or a distractor."""

MIN_VISIBLE: Final = 0.5
"""Share of an object's area that stays visible; nothing is placed where it would hide more."""

MIN_VISIBLE_SIDE: Final = 7
"""The visible part's box is at least this wide and high, in pixels."""


class Canvas:
    """Pixels that are painted back to front.

    Attributes:
        pixels: [H, W, 3] float32 RGB.
        owners: [H, W] int32, the number of the object that a pixel shows, or ``NO_OBJECT``.
        full_areas: pixels of each object as if nothing hid it and the image had no border.
    """

    def __init__(self, pixels: Image) -> None:
        """Start from a background."""
        self.pixels = pixels
        self.owners: npt.NDArray[np.int32] = np.zeros(pixels.shape[:2], np.int32)
        self.full_areas: dict[int, int] = {}

    def mean_colour(self, stencil: Stencil) -> npt.NDArray[np.float64]:
        """Return the [3] mean of what the stencil would cover; mid grey where it lies outside."""
        rows, columns, window = self._windows(stencil)
        weights = stencil.alpha[window]
        total = float(weights.sum())
        if total == 0:
            return np.full(3, 128.0)
        return np.asarray((self.pixels[rows, columns] * weights[..., None]).sum(axis=(0, 1)) / total, np.float64)

    def accepts(self, stencil: Stencil, *, is_object: bool) -> bool:
        """Whether every object, and this one if it is an object, would stay visible enough to be recognised."""
        rows, columns, window = self._windows(stencil)
        mask = stencil.mask[window]
        if is_object and not _recognisable(mask, int(stencil.mask.sum())):
            return False
        for owner in np.unique(self.owners[rows, columns][mask]):
            if owner == NO_OBJECT:
                continue
            rest = self.owners == owner
            rest[rows, columns] &= ~mask
            if not _recognisable(rest, self.full_areas[int(owner)]):
                return False
        return True

    def touches_object(self, stencil: Stencil) -> bool:
        """Whether the stencil's window holds a pixel of any object."""
        rows, columns, _ = self._windows(stencil)
        return bool((self.owners[rows, columns] != NO_OBJECT).any())

    def paint(self, stencil: Stencil, colours: Image, owner: int = NO_OBJECT) -> None:
        """Paint ``colours`` [h, w, 3] through the stencil; its pixels now show ``owner``."""
        rows, columns, window = self._windows(stencil)
        alpha = stencil.alpha[window][..., None]
        pixels = self.pixels[rows, columns]
        self.pixels[rows, columns] = pixels + (colours[window] - pixels) * alpha
        self.owners[rows, columns][stencil.mask[window]] = owner
        if owner != NO_OBJECT:
            self.full_areas[owner] = self.full_areas.get(owner, 0) + int(stencil.mask.sum())

    def _windows(self, stencil: Stencil) -> tuple[slice, slice, tuple[slice, slice]]:
        """Return the image's rows and columns under the stencil, and the stencil's window on them."""
        height, width = self.owners.shape
        stencil_height, stencil_width = stencil.alpha.shape
        top, left = min(max(stencil.y, 0), height), min(max(stencil.x, 0), width)
        bottom = max(min(stencil.y + stencil_height, height), top)
        right = max(min(stencil.x + stencil_width, width), left)
        rows = slice(top - stencil.y, bottom - stencil.y)
        columns = slice(left - stencil.x, right - stencil.x)
        return slice(top, bottom), slice(left, right), (rows, columns)


def _recognisable(visible: npt.NDArray[np.bool_], full_area: int) -> bool:
    area = int(visible.sum())
    if area < MIN_VISIBLE * full_area:
        return False
    return min(int(visible.any(axis=axis).sum()) for axis in (0, 1)) >= MIN_VISIBLE_SIDE
