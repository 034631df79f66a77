"""What an image file is, found out by reading and decoding it once."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from detector.data.decode import ImageError, decode_image
from detector.structures import Size

_ORIENTATION_TAG: Final = 0x0112  # EXIF
_TURNING: Final = (5, 6, 7, 8)  # orientations that swap width and height


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image file. All defaults: it is there, and nobody has looked into it.

    Attributes:
        is_missing: whether there is no such file.
        problem: why it cannot be decoded; empty if it can.
        stored_size: (height, width) of the pixels as they are stored; None where the file was not decoded.
        orientation: of EXIF, 1 ... 8; 1 where there is none or nothing is left to do.
        format: Pillow's name of what the file's content is, such as ``JPEG``; empty where Pillow does not know.
        digest: a hash of the file's bytes; empty where it was not read.
    """

    is_missing: bool = False
    problem: str = ""
    stored_size: Size | None = None
    orientation: int = 1
    format: str = ""
    digest: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the file is there and, as far as anyone looked, can be decoded."""
        return not self.is_missing and not self.problem

    @property
    def shown_size(self) -> Size | None:
        """(height, width) after the EXIF orientation, as viewers show the image."""
        if self.stored_size is None:
            return None
        height, width = self.stored_size
        return (width, height) if self.orientation in _TURNING else (height, width)


def read_image_facts(path: Path) -> ImageFacts:
    """Read and decode an image file.

    Returns:
        What it is; an unreadable file is no error here.
    """
    try:
        height, width = decode_image(path).shape[:2]  # turned as EXIF says
        data = path.read_bytes()
    except ImageError as error:
        return ImageFacts(problem=str(error).removeprefix(f"{path}: "))
    except OSError as error:  # between the two
        return ImageFacts(problem=str(error.strerror))
    content_format, orientation = _read_header(data)
    stored = (width, height) if orientation in _TURNING else (height, width)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return ImageFacts(stored_size=stored, orientation=orientation, format=content_format, digest=digest)


def _read_header(data: bytes) -> tuple[str, int]:
    """Return what a file's content is and its EXIF orientation, as far as Pillow can tell."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            content_format = image.format or ""
            # OpenCV and Pillow turn TIFF files by themselves.
            orientation = 1 if content_format == "TIFF" else image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # its readers raise nearly anything on odd headers; the pixels were decoded all the same
        return "", 1
    return content_format, orientation if orientation in range(1, 9) else 1
