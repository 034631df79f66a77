"""The size that an image file declares, from its header: to refuse absurd ones before they take the memory."""

import io
from typing import Final

from PIL import Image

from detector.structures import Size

MAX_PIXELS: Final = 178_956_970
"""Pixels of the largest image that is decoded: 512 MiB as RGB. Pillow refuses larger ones too (twice its
``MAX_IMAGE_PIXELS``), so one rule holds for all readers."""

_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def declared_size(data: bytes) -> Size | None:
    """Return the (height, width) that an image file declares, not turned; None where it cannot be told cheaply.

    PNG and JPEG, the formats of almost all datasets, are read here: Pillow would take about as long as a hundredth of
    the decoding. WebP holds no sides above 16,383 pixels (RFC 9649, Sec. 2.5): its size is not asked for.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
        return height, width
    if data.startswith(b"\xff\xd8\xff"):
        return _size_of_jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        return MAX_PIXELS, MAX_PIXELS  # Pillow has seen one that is too large, and keeps it for itself
    except Exception:  # its readers raise nearly anything on broken headers; OpenCV may still read the file
        return None
    return height, width


def _size_of_jpeg(data: bytes) -> Size | None:
    """Return what the frame header of a JPEG file says."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker in _START_OF_FRAME:
            height, width = (int.from_bytes(data[start : start + 2], "big") for start in (position + 5, position + 7))
            return height, width
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
