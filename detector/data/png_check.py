"""Damage in PNG files, by the check sums that they carry: OpenCV decodes what it can and fills in the rest."""

import zlib
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_OVERHEAD: Final = 12  # length, name and check sum of a chunk


def find_png_damage(data: bytes) -> str | None:
    """Return what is wrong with a PNG file: damaged (by the CRC-32 of its chunks, ISO/IEC 15948, Sec. 5) or cut short.

    Bytes behind the end are fine.

    Args:
        data: a file that begins as PNG files do.
    """
    position, view = len(_SIGNATURE), memoryview(data)
    if not data.startswith(_SIGNATURE):
        return "damaged: its first bytes are not those of a PNG file"
    while position + _OVERHEAD <= len(data):
        end = position + _OVERHEAD + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            break
        name = data[position + 4 : position + 8]
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return f"damaged: its part {name.decode('latin-1')!r} at byte {position} does not fit its check sum"
        if name == b"IEND":
            return None
        position = end
    return f"cut short: its {len(data)} bytes have no end mark"
