"""Image files to RGB pixels."""

import io
import struct
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from detector.data.declared_size import MAX_PIXELS, declared_size
from detector.data.patient_reading import read_patiently
from detector.data.png_check import find_png_damage
from detector.errors import UserError
from detector.structures import Size

Pixels = npt.NDArray[np.uint8]
"""[H, W, 3] RGB."""

_JPEG: Final = b"\xff\xd8\xff"
"""How a JPEG begins. Only these are decoded to RGB at once: OpenCV 5.0 has the channels of a PAM file in the other
order then."""

_ORIENTATION_TAG: Final = 0x0112  # EXIF
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, KeyError, struct.error)  # what its readers raise on broken files
_DEEP_MODES = ("F", "I")  # Pillow's names of 32-bit pixels; its conversion to RGB would cut them off at 255


class ImageError(UserError):
    """An image file cannot be used: it is missing, unreadable, cut short, or of another size than annotated."""


def decode_image(path: Path, expected_size: Size | None = None) -> Pixels:
    """Read an image as RGB, 8 bits a channel: gray is repeated, alpha dropped, 16 bits are scaled to 8.

    The rule of EXIF orientation: annotated coordinates belong to the pixels as they are stored unless their size says
    otherwise. So the orientation is applied exactly where the stored size is not the annotated one and the turned size
    is; images that keep their size when turned (square ones, mirrored ones, upside down) stay as stored. Without an
    annotated size the orientation is always applied, which is how viewers show the image. (TIFF files are the
    exception: OpenCV and Pillow turn them in any case.)

    Args:
        path: image file of any format that OpenCV or, where it cannot, Pillow reads.
        expected_size: annotated (height, width), None where there is none.

    Returns:
        [H, W, 3] uint8; (H, W) is ``expected_size`` where that is given.

    Raises:
        ImageError: the file is missing, empty, no image, cut short, or of another size than annotated.
    """
    return decode_image_data(path, read_image_file(path), expected_size)


def read_image_file(path: Path) -> bytes:
    """Return what is in an image file, not decoded.

    Raises:
        ImageError: the file is missing or empty.
    """
    try:
        data = read_patiently(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ImageError(f"{path}: cannot read the image: {_reason(error)}") from error
    if not data:
        raise ImageError(f"{path}: the image file is empty (0 bytes)")
    return data


def decode_image_data(path: Path, data: bytes, expected_size: Size | None) -> Pixels:
    """Decode what :func:`read_image_file` returned; see :func:`decode_image`.

    Args:
        path: of the file, for messages.
        data: its content.
        expected_size: annotated (height, width), None where there is none.

    Raises:
        ImageError: the file is no image, cut short, or of another size than annotated.
    """
    pixels = _decode(path, data)
    if expected_size is not None and pixels.shape[:2] == expected_size:
        return pixels
    orientation = _read_orientation(path, io.BytesIO(data))
    turned = _turn(pixels, orientation)
    if expected_size is None or turned.shape[:2] == expected_size:
        return turned
    note = "" if orientation == 1 else f" ({_describe_size(turned.shape)} after its EXIF orientation {orientation})"
    raise ImageError(
        f"{path}: the image has {_describe_size(pixels.shape)} pixels{note}, but the annotation file says "
        f"{_describe_size(expected_size)} (height x width)"
    )


def read_image_size(path: Path) -> Size:
    """Return the (height, width) of ``decode_image(path)``, from the file's header alone.

    Raises:
        ImageError: the file is missing, empty or no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: cannot read the size of the image: {error}") from error
    except _PILLOW_ERRORS as error:
        raise ImageError(f"{path}: cannot read the size of the image: {_reason(error)}") from error
    return (width, height) if is_turned else (height, width)


def read_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image, 1 ... 8, from the file's header alone; 1 where there is none.

    Raises:
        ImageError: the image is larger than Pillow opens.
    """
    return _read_orientation(path, path)


def _decode(path: Path, data: bytes) -> Pixels:
    """Return the stored pixels, not turned (but TIFF)."""
    size = declared_size(data)
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{path}: the image declares more pixels than the {MAX_PIXELS:,} that are decoded at most")
    if data.startswith(b"\x89PNG") and (damage := find_png_damage(data)) is not None:
        raise ImageError(f"{path}: the image file is {damage}")
    if _is_cut_short(data):
        raise ImageError(f"{path}: the image file is cut short: its {len(data)} bytes have no end mark")
    try:
        is_jpeg = data.startswith(_JPEG)
        flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_COLOR_RGB if is_jpeg else cv2.IMREAD_COLOR)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "MAX_IMAGE" in str(error):
            raise ImageError(
                f"{path}: the image has more pixels than OpenCV allows (2^30, or 2^20 a side; see the environment "
                "variables OPENCV_IO_MAX_IMAGE_PIXELS, OPENCV_IO_MAX_IMAGE_WIDTH and OPENCV_IO_MAX_IMAGE_HEIGHT)"
            ) from error
        raise ImageError(f"{path}: OpenCV cannot decode the image: {str(error).strip()}") from error
    if pixels is None:
        return _decode_with_pillow(path, data)
    if not is_jpeg:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    return np.asarray(pixels, dtype=np.uint8)


def _decode_with_pillow(path: Path, data: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise ImageError(f"{path}: the image has pixels of mode {image.mode}, expected 8 or 16 bits a channel")
            return np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: cannot decode the image: {error}") from error
    except _PILLOW_ERRORS as error:
        raise ImageError(f"{path}: cannot decode the image: {_reason(error)}") from error


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG file lacks its end mark.

    Decoders differ in what they do then: some versions fill the missing part with gray and only print a warning.
    Bytes behind the end mark are fine, some cameras write them.
    """
    if data.startswith(_JPEG):
        return data.rfind(b"\xff\xd9", _start_of_scan(data)) < 0
    return False


def _start_of_scan(data: bytes) -> int:
    """Return where the compressed pixels of a JPEG start: before it, a thumbnail may have an end mark of its own."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:
            return position
        if marker == 0xFF:  # padding
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # markers without a length
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return min(position, len(data))


def _read_orientation(path: Path, source: Path | io.BytesIO) -> int:
    """Return the EXIF orientation, 1 ... 8; 1 where there is none or nothing is left to do."""
    try:
        with Image.open(source) as image:
            orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION_TAG, 1)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: cannot read the orientation of the image: {error}") from error
    except _PILLOW_ERRORS:
        return 1  # a format or an EXIF block that Pillow cannot read has no orientation that anyone could apply
    return orientation if orientation in range(1, 9) else 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror stored pixels upright (EXIF 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _describe_size(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]}"


def _reason(error: Exception) -> str:
    """Return what went wrong without the repetition of the path and without addresses of objects in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
