"""Decoded images in memory, shared by all loader processes of one training process.

They are kept as they are stored, not resized: every short side and every transform, which come before the resize, then
find the pixels that they would have had from the file, and batches stay the same to the last bit.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from detector.data.buffers import BatchBuffers
from detector.data.decode import ImageError, Pixels
from detector.structures import Size


def cache_bytes(sizes: Tensor) -> int:
    """Return the memory that the images of a dataset take, decoded; ``sizes`` is [I, 2], (height, width)."""
    return int(sizes.prod(dim=1).sum()) * 3


class PixelCache:
    """Holds the decoded images of a dataset; filled before loader processes are started, and only read after that.

    Args:
        sizes: [I, 2] int64, (height, width) of the images in pixels.
    """

    def __init__(self, sizes: Tensor) -> None:
        self._ends = np.cumsum(sizes.prod(dim=1).numpy() * 3)
        self._is_there = np.zeros(len(sizes), dtype=np.bool_)
        self._memory = BatchBuffers(1, max(1, cache_bytes(sizes)))

    @property
    def num_images(self) -> int:
        """Images that are there."""
        return int(self._is_there.sum())

    def fill(self, decode: Callable[[int], Pixels]) -> None:
        """Decode all images, on all cores; those that cannot be read are left out, and fail when they are needed."""
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # the decoder lets other threads work
            list(pool.map(lambda index: self._put(index, decode), range(len(self._ends))))

    def get(self, index: int, size: Size) -> Pixels | None:
        """Return a copy of the pixels of image ``index``, [H, W, 3] of ``size``; None if they are not there."""
        return self._pixels(index, size).copy() if self._is_there[index] else None

    def _put(self, index: int, decode: Callable[[int], Pixels]) -> None:
        try:
            pixels = decode(index)
        except ImageError:
            return
        self._pixels(index, (pixels.shape[0], pixels.shape[1]))[:] = pixels
        self._is_there[index] = True

    def _pixels(self, index: int, size: Size) -> Pixels:
        end, num_bytes = int(self._ends[index]), size[0] * size[1] * 3
        return self._memory.write_to(0, end)[end - num_bytes :].reshape(*size, 3)
