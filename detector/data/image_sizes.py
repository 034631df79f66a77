"""Sizes of many images, from the headers of their files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.decode import read_image_size

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
    with ThreadPoolExecutor(max_workers=_NUM_THREADS) as pool:
        found = list(pool.map(read_image_size, paths))
    return np.array(found, dtype=np.int64).reshape(-1, 2)
