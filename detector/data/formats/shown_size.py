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
            not show in its size while that size is annotated.
        ImageError: an image with boxes cannot be read. (Missing ones are for others to report.)
    """
    place_of = {row: content.images_dir / content.file_names[row] for row in np.unique(content.image_index).tolist()}
    place_of = {row: path for row, path in place_of.items() if path.is_file()}
    paths, annotated = list(place_of.values()), content.sizes[list(place_of)]
    _check_sizes(paths, annotated, form)
    is_written = ~content.is_measured[list(place_of)]
    found = _find_hidden_turns([path for path, flag in zip(paths, is_written, strict=True) if flag])
    if found:
        path, orientation = next(iter(found.items()))
        raise UserError(
            f"{path}: the image has the EXIF orientation {orientation}, by which readers of {form.upper()} turn it, "
            f"but not its boxes ({len(found)} such images): {_ADVICE}"
        )


def check_turns_without_sizes(content: DatasetContent, form: FormatName) -> None:
    """Make sure that no box moves where the size of its image is written for the first time.

    Args:
        content: what is written, all sizes known.
        form: none of SIZELESS.

    Raises:
        UserError: an image whose size was read from its file has an EXIF orientation that does not show in its size:
            with the size written, the image would not be turned any more.
    """
    found = _find_hidden_turns(
        [content.images_dir / content.file_names[row] for row in np.flatnonzero(content.is_measured).tolist()]
    )
    if found:
        path, orientation = next(iter(found.items()))
        raise UserError(
            f"{path}: the image has the EXIF orientation {orientation}, by which it is turned under its boxes, but "
            f"which does not show in its size: with the size that {form.upper()} has, it would not be turned "
            f"({len(found)} such images): {_ADVICE}"
        )


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


def _find_hidden_turns(paths: Sequence[Path]) -> dict[Path, int]:
    """Return the EXIF orientations of images that keep their size when turned, but not their pixels."""
    orientations = {path: read_orientation(path) for path in paths if path.is_file()}
    turned = {path: orientation for path, orientation in orientations.items() if orientation != 1}
    sizes = read_image_sizes(list(turned)).tolist()
    return {
        path: orientation
        for (path, orientation), (height, width) in zip(turned.items(), sizes, strict=True)
        if orientation <= 4 or height == width
    }
