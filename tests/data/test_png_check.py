"""Damage in a PNG file is seen, wherever it is; OpenCV alone fills in what it cannot decode."""

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.data.decode import ImageError, decode_image
from detector.data.png_check import find_png_damage


@pytest.fixture(scope="module")
def png() -> bytes:
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", picture)[1])


def test_whole_files_are_fine_also_with_bytes_behind_their_end(png: bytes) -> None:
    assert find_png_damage(png) is None
    assert find_png_damage(png + b"anything") is None


def test_every_flipped_bit_before_the_end_is_found(png: bytes) -> None:
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(png)
        damaged[rng.randrange(8, len(png))] ^= 1 << rng.randrange(8)
        assert find_png_damage(bytes(damaged)) is not None


def test_every_cut_is_found(png: bytes) -> None:
    for length in range(0, len(png), 7):
        assert find_png_damage(png[:length]) is not None


def test_a_damaged_file_is_named_with_its_part(png: bytes, tmp_path: Path) -> None:
    damaged = bytearray(png)
    start = png.index(b"IDAT")
    damaged[start + 200] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(bytes(damaged))
    with pytest.raises(
        ImageError, match=rf"a\.png: the image file is damaged: its part 'IDAT' at byte {start - 4} does"
    ):
        decode_image(path)
    path.write_bytes(png[:-20])
    with pytest.raises(ImageError, match=r"a\.png: the image file is cut short: its"):
        decode_image(path)
