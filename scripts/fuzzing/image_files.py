"""Mutated images. Rule: an image that is decoded has the annotated size and its end mark.

In JPEG, BMP, WebP and TIFF files nothing tells a wrong pixel from a right one. PNG files have check sums.
"""

import random
from pathlib import Path

import cv2
import numpy as np

from detector.data.decode import decode_image
from fuzzing.mutations import BINARY
from fuzzing.outcome import SilentError

SIZE = (60, 80)
SUFFIXES = (".jpg", ".jpg", ".png", ".png", ".bmp", ".webp", ".tif")


def original() -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """A picture with edges and gradients, RGB."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.stack((rows * 4, columns * 3, (rows * columns) % 256), axis=-1).astype(np.uint8)
    picture[10:30, 20:50] = (250, 20, 40)
    return picture


def make_case(folder: Path, rng: random.Random) -> tuple[str, Path]:
    """Write a mutated image; return the mutation's name and the file."""
    suffix = rng.choice(SUFFIXES)
    data = bytes(cv2.imencode(suffix, original()[..., ::-1])[1])
    mutation = rng.choice(BINARY)
    file = folder / f"image{suffix}"
    file.write_bytes(mutation(data, rng))
    return f"{mutation.__name__} {suffix}", file


def read_case(file: Path) -> None:
    """Decode it, as an image whose size is annotated and as one whose size is not."""
    pixels = decode_image(file, SIZE)
    if pixels.shape != (*SIZE, 3) or pixels.dtype != np.uint8:
        raise SilentError(f"decoded to {pixels.dtype} {pixels.shape}")
    if file.suffix == ".png" and not np.array_equal(pixels, original()):
        raise SilentError("other pixels than were saved, in a file with check sums")
    decode_image(file)
