"""Images of absurd size are refused by their header."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.data import decode
from detector.data.declared_size import MAX_PIXELS, declared_size
from detector.data.decode import ImageError, decode_image, read_image_size


def encode(form: str, size: tuple[int, int] = (13, 37), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size[::-1], (10, 200, 30)).save(buffer, form, **options)
    return buffer.getvalue()


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header declares any size; its check sums are right."""
    data = bytearray(encode("PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def jpeg_that_declares(width: int, height: int) -> bytes:
    data = bytearray(encode("JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def bmp_that_declares(width: int, height: int) -> bytes:
    data = bytearray(encode("BMP"))
    data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
def test_the_declared_size_is_that_of_the_image(form: str) -> None:
    assert declared_size(encode(form)) == (13, 37)


def test_a_progressive_jpeg_with_a_thumbnail_declares_its_own_size() -> None:
    thumbnail = encode("JPEG", (5, 7))
    data = encode("JPEG", progressive=True, exif=b"Exif\0\0" + thumbnail)
    assert declared_size(data) == (13, 37)
    padded = data[:2] + b"\xff" + data[2:]
    assert declared_size(padded) == (13, 37)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00", b"no image at all", b"BM"])
def test_what_declares_nothing_is_left_to_the_decoder(data: bytes) -> None:
    assert declared_size(data) is None


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bomb.png", png_that_declares(30_000, 30_000)),
        ("bomb.jpg", jpeg_that_declares(65_500, 65_500)),
        ("bomb.bmp", bmp_that_declares(20_000, 20_000)),
    ],
)
def test_an_image_of_absurd_size_is_refused_before_it_is_decoded(
    name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoder(*_: object) -> None:
        pytest.fail("the image was decoded")

    monkeypatch.setattr(decode.cv2, "imdecode", decoder)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=rf"{name}: the image declares more pixels than the {MAX_PIXELS:,}"):
        decode_image(tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name}: cannot read the size of the image: .* exceeds limit"):
        read_image_size(tmp_path / name)


def test_a_large_image_within_the_limit_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((3000, 3000, 3), np.uint8))
    assert decode_image(path).shape == (3000, 3000, 3)


def test_pillow_has_the_same_limit() -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MAX_PIXELS
