"""The pixels of one batch, each image resized to where it lies in it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from detector.data.padding import Padding
from detector.data.resize import resize_into
from detector.structures import Sample, Size

Allocate = Callable[[int], npt.NDArray[np.uint8]]
"""Returns that many bytes; called again, it may return the same ones."""


class BatchPixels:
    """Resizes images into one block of memory, as a batch has them: [N, H, W, 3], padded bottom and right with zeros.

    Args:
        allocate: where the memory is from.
        num_images: N.
        padded_size: planned (H, W); the batch grows where an image does not fit, as a transform may have enlarged it.
    """

    def __init__(self, allocate: Allocate, num_images: int, padded_size: Size) -> None:
        self._allocate = allocate
        self._num_images = num_images
        self._padded_size = padded_size
        self._pixels = self._block(padded_size)
        self._images: list[npt.NDArray[np.uint8]] = []

    def add(self, sample: Sample, size: Size) -> Sample:
        """Resize the next sample to ``size`` and return it; its pixels are valid until :meth:`finish`."""
        height, width = size
        if height <= self._padded_size[0] and width <= self._padded_size[1]:
            target = self._pixels[len(self._images), :height, :width]
        else:
            target = np.empty((height, width, 3), dtype=np.uint8)
        resized = resize_into(sample, target)
        self._images.append(target)
        return resized

    def finish(self, padding: Padding) -> npt.NDArray[np.uint8]:
        """Return the batch [N, H, W, 3] once N samples were added.

        Args:
            padding: rule of the padded shape.

        Raises:
            UserError: there are buckets and none of them fits.
        """
        padded_size = padding.padded([self._padded_size, *(image.shape[:2] for image in self._images)])
        if padded_size != self._padded_size:  # the images lie elsewhere in it, and the memory may be the same
            images = [image.copy() for image in self._images]
            self._pixels = self._block(padded_size)
            for target, image in zip(self._pixels, images, strict=True):
                target[: image.shape[0], : image.shape[1]] = image
        for target, image in zip(self._pixels, self._images, strict=True):
            height, width = image.shape[:2]
            target[:height, width:] = 0
            target[height:] = 0
        return self._pixels

    def _block(self, padded_size: Size) -> npt.NDArray[np.uint8]:
        shape = (self._num_images, *padded_size, 3)
        return self._allocate(int(np.prod(shape))).reshape(shape)
