"""Sizes of many images, from the headers of their files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.decode import ImageError, read_image_size
from detector.data.formats.content import UNKNOWN_SIZE
from detector.structures import Size

_NUM_THREADS: Final = 8  # they wait for the disk


def read_image_sizes(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Return the size of each image, as :func:`~detector.data.decode.read_image_size` does.

    Args:
        paths: any number of image files.

    Returns:
        [images, 2] int64, (height, width) in pixels.

    Raises:
        ImageError: an image is missing, empty or no image.
    """
    return _read_all(read_image_size, paths)


def find_image_sizes(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Return the size of each image as :func:`read_image_sizes` does, UNKNOWN_SIZE where one cannot be read."""
    return _read_all(_find_image_size, paths)


def _find_image_size(path: Path) -> Size:
    try:
        return read_image_size(path)
    except ImageError:
        return UNKNOWN_SIZE, UNKNOWN_SIZE


def _read_all(read: Callable[[Path], Size], paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    with ThreadPoolExecutor(max_workers=_NUM_THREADS) as pool:
        found = list(pool.map(read, paths))
    return np.array(found, dtype=np.int64).reshape(-1, 2)
