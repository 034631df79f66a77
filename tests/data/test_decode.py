"""Image files become RGB pixels, and files that cannot are named."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image, ImageOps

from detector.data.decode import ImageError, Pixels, decode_image, read_image_size
from detector.errors import UserError

HEIGHT, WIDTH = 40, 60


def picture(height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """Smooth random colours: they survive JPEG well, and no turn or swap of channels leaves them alike."""
    coarse = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def save(path: Path, pixels: Pixels, mode: str = "RGB", orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).convert(mode).save(path, exif=exif)
    return path


def test_rgb_is_read_in_the_order_red_green_blue(tmp_path: Path) -> None:
    decoded = decode_image(save(tmp_path / "a.png", picture()), (HEIGHT, WIDTH))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    npt.assert_array_equal(decoded, picture())


MODES = {
    ".jpg": ["L", "CMYK", "1"],
    ".png": ["L", "LA", "RGBA", "P", "1"],
    ".tif": ["L", "LA", "RGBA", "P", "1", "CMYK"],
    ".bmp": ["L", "RGBA", "P", "1"],
    ".webp": ["L", "RGBA", "P"],
    ".gif": ["L", "RGBA", "P", "1"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_other_kinds_of_pixels_become_rgb_as_pillow_reads_them(tmp_path: Path, suffix: str, mode: str) -> None:
    path = save(tmp_path / f"a{suffix}", picture(), mode)
    decoded = decode_image(path, (HEIGHT, WIDTH))
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    npt.assert_allclose(decoded.astype(int), expected, atol=1)  # CMYK is rounded differently


def test_cmyk_comes_near_the_picture_and_not_its_negative(tmp_path: Path) -> None:
    decoded = decode_image(save(tmp_path / "a.jpg", picture(), "CMYK"))
    assert np.abs(decoded.astype(int) - picture()).mean() < 12


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        cv2.imwrite(str(tmp_path / name), picture()[..., ::-1].astype(np.uint16) * 256 + 77)
        npt.assert_allclose(decode_image(tmp_path / name).astype(int), picture(), atol=1)  # readers round differently


def test_formats_that_opencv_cannot_read_are_read_by_pillow(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tga", picture())
    assert cv2.imread(str(path)) is None
    npt.assert_array_equal(decode_image(path, (HEIGHT, WIDTH)), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_without_an_annotated_size_every_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", picture(), orientation=orientation)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    decoded = decode_image(path)
    npt.assert_array_equal(decoded, expected)
    assert read_image_size(path) == decoded.shape[:2]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_orientation_is_applied_where_it_makes_the_size_the_annotated_one(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", picture(), orientation=orientation)
    npt.assert_array_equal(decode_image(path, (HEIGHT, WIDTH)), picture())
    with Image.open(path) as image:
        npt.assert_array_equal(decode_image(path, (WIDTH, HEIGHT)), np.asarray(ImageOps.exif_transpose(image)))


def test_jpeg_orientation_is_applied_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture(), orientation=6)
    stored = decode_image(path, (HEIGHT, WIDTH))
    npt.assert_array_equal(decode_image(path, (WIDTH, HEIGHT)), np.rot90(stored, -1))  # 6: turn clockwise


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_images_that_keep_their_size_when_turned_stay_as_stored(tmp_path: Path, orientation: int) -> None:
    pixels = picture(HEIGHT, HEIGHT)
    npt.assert_array_equal(
        decode_image(save(tmp_path / "a.png", pixels, orientation=orientation), (HEIGHT, HEIGHT)), pixels
    )


def test_a_tiff_is_turned_by_its_reader_and_only_once(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", picture(), orientation=6)
    upright = np.rot90(picture(), -1)
    npt.assert_array_equal(decode_image(path), upright)
    npt.assert_array_equal(decode_image(path, (WIDTH, HEIGHT)), upright)
    assert read_image_size(path) == (WIDTH, HEIGHT)


def test_another_size_than_annotated_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a.png: the image has 40 x 60 pixels, but the annotation file says 41 x 60"):
        decode_image(save(tmp_path / "a.png", picture()), (41, 60))
    with pytest.raises(ImageError, match=r"40 x 60 pixels \(60 x 40 after its EXIF orientation 8\), but"):
        decode_image(save(tmp_path / "b.png", picture(), orientation=8), (41, 60))


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture()).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):  # Pillow's
        assert decode_image(path).shape == (HEIGHT, WIDTH, 3)
    save(path, picture(), orientation=77)
    assert decode_image(path).shape == (HEIGHT, WIDTH, 3)


def test_image_errors_are_user_errors() -> None:
    assert issubclass(ImageError, UserError)


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none.jpg: cannot read the image: No such file"):
        decode_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot read the image: Is a directory"):
        decode_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty.jpg: the image file is empty \(0 bytes\)"):
        decode_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"text.jpg: cannot decode the image: it is no image of a known format"):
        decode_image(tmp_path / "text.jpg")
    with pytest.raises(ImageError, match=r"text.jpg: cannot read the size of the image: it is no image"):
        read_image_size(tmp_path / "text.jpg")
    with pytest.raises(ImageError, match=r"none.jpg: cannot read the size of the image: No such file"):
        read_image_size(tmp_path / "none.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".gif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_files_cut_short_are_never_half_decoded(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"a{suffix}", picture(200, 300))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ImageError, match=rf"a{suffix}: (the image file is cut short|cannot decode the image)"):
        decode_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_only_the_end_mark_tells_that_a_file_is_whole(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, picture())
    data = path.read_bytes()
    path.write_bytes(data + b"\0" * 50 + b"written by a camera")
    assert decode_image(path).shape == (HEIGHT, WIDTH, 3)
    path.write_bytes(data[: -2 if name == "a.jpg" else -10])
    with pytest.raises(ImageError, match=r"cut short: its \d+ bytes have no end mark"):
        decode_image(path)


def test_the_end_mark_of_a_thumbnail_is_not_taken_for_the_images(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(picture(8, 12)).save(thumbnail, "JPEG")
    payload = b"Exif\0\0" + thumbnail.getvalue()
    data = save(tmp_path / "a.jpg", picture()).read_bytes()
    whole = data[:2] + b"\xff\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]
    (tmp_path / "a.jpg").write_bytes(whole)
    assert decode_image(tmp_path / "a.jpg", (HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH, 3)
    (tmp_path / "a.jpg").write_bytes(whole[:-100])
    with pytest.raises(ImageError, match="cut short"):
        decode_image(tmp_path / "a.jpg", (HEIGHT, WIDTH))


def test_progressive_jpeg_cut_in_a_later_scan_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(200, 300)).save(path, progressive=True, quality=95)
    assert decode_image(path).shape == (200, 300, 3)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageError, match="cut short"):
        decode_image(path)


def test_opencvs_own_limit_is_told_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.data.decode.MAX_PIXELS", 2**40)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path = tmp_path / "big.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(
        ImageError, match=r"big.png: the image has more pixels than OpenCV allows .*IO_MAX_IMAGE_PIXELS"
    ):
        decode_image(path)


def test_pixels_of_32_bits_are_refused_rather_than_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 5000, 100, dtype=np.float32).reshape(10, 10)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a.tif: the image has pixels of mode F, expected 8 or 16 bits"):
        decode_image(tmp_path / "a.tif")


def test_a_name_that_no_file_can_have_is_an_unreadable_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot read the image"):
        decode_image(tmp_path / "a\0b.png")
