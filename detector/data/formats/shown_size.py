"""Boxes of formats without image sizes: they mean the same to whoever has the image file only, or are refused.

Where no size is written, readers turn an image by its EXIF orientation and take boxes to be on what they see then.
Where one is written, :func:`detector.data.decode.decode_image` turns the image only if that gives the written size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.decode import read_orientation
from detector.data.formats.content import DatasetContent, FormatName
from detector.data.image_sizes import read_image_sizes
from detector.errors import UserError

SIZELESS: Final[tuple[FormatName, ...]] = ("yolo", "csv")
"""Formats that say nothing of the size of an image."""

_ADVICE: Final = "turn the pixels of images with an EXIF orientation, or correct the annotations"


def check_shown_sizes(content: DatasetContent, form: FormatName) -> None:
    """Make sure that no box moves where the size of its image is not written any more.

    Args:
        content: what is written, all sizes known.
        form: one of SIZELESS.

    Raises:
        UserError: an image with boxes is shown in another size than annotated, or has an EXIF orientation that does
            not show in its size while the boxes come from a format with sizes.
        ImageError: an image with boxes cannot be read. (Missing ones are for others to report.)
    """
    place_of = {row: content.images_dir / content.file_names[row] for row in np.unique(content.image_index).tolist()}
    place_of = {row: path for row, path in place_of.items() if path.is_file()}
    paths, annotated = list(place_of.values()), content.sizes[list(place_of)]
    _check_sizes(paths, annotated, form)
    if content.format not in SIZELESS:
        _check_orientations(paths, annotated, form)


def _check_sizes(paths: Sequence[Path], annotated: npt.NDArray[np.int64], form: FormatName) -> None:
    shown = read_image_sizes(paths)
    wrong = np.flatnonzero((shown != annotated).any(axis=1))
    if len(wrong):
        first = int(wrong[0])
        found, written = (" x ".join(map(str, sizes[first].tolist())) for sizes in (shown, annotated))
        raise UserError(
            f"{paths[first]}: the image is shown as {found} pixels, but annotated as {written} (height x width; "
            f"{len(wrong)} such images). {form.upper()} counts in the image as it is shown: {_ADVICE}"
        )


def _check_orientations(paths: Sequence[Path], annotated: npt.NDArray[np.int64], form: FormatName) -> None:
    """Find images that keep their size when turned: by their annotated size, boxes are on the stored pixels."""
    orientations = np.array([read_orientation(path) for path in paths], dtype=np.int64)
    keeps_size = (orientations <= 4) | (annotated[:, 0] == annotated[:, 1])
    wrong = np.flatnonzero((orientations != 1) & keeps_size)
    if len(wrong):
        first = int(wrong[0])
        raise UserError(
            f"{paths[first]}: the image has the EXIF orientation {orientations[first]}, by which readers of "
            f"{form.upper()} turn it, but not its boxes ({len(wrong)} such images): {_ADVICE}"
        )
