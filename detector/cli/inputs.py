"""What ``predict`` reads: an image, a folder of images, or a video."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from detector.data.decode import decode_image
from detector.errors import UserError

IMAGE_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES: Final = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


@dataclass(frozen=True, slots=True)
class Frame:
    """An image to look at.

    Attributes:
        name: path relative to the input folder with ``/`` between its parts, or the video's file name.
        index: its place among the input's images or frames, from 0.
        image: [H, W, 3] uint8, RGB.
    """

    name: str
    index: int
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Video:
    """An open video.

    Attributes:
        path: its file.
        capture: OpenCV's reader, before the first frame.
        fps: frames per second; 25 where the file does not say.
        num_frames: as the file's header says, which may be wrong; 0 if it does not say.
    """

    path: Path
    capture: cv2.VideoCapture
    fps: float
    num_frames: int


def input_kind(path: Path) -> Literal["image", "folder", "video"]:
    """Tell what an input is, by its file name.

    Raises:
        UserError: if it does not exist or its extension is not among those that can be read.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise UserError(f"--input {path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    raise UserError(
        f"--input {path}: the extension {suffix!r} is not supported; images: {' '.join(IMAGE_SUFFIXES)}, "
        f"videos: {' '.join(VIDEO_SUFFIXES)}"
    )


def find_images(folder: Path, *, without: Path) -> list[str]:
    """List the images of a folder and its subfolders.

    Hidden files and folders are left out, and so is everything below ``without``: an output folder inside the input
    folder does not become input when the command is run a second time.

    Returns:
        Paths relative to the folder, with ``/`` between their parts, sorted; at least one.

    Raises:
        UserError: if there is no image, or a folder cannot be read.
    """
    excluded = without.resolve()

    def stop(error: OSError) -> None:
        raise UserError(f"--input {error.filename}: cannot be read: {error.strerror}")

    names = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        here = Path(parent)
        folders[:] = [name for name in folders if not name.startswith(".") and (here / name).resolve() != excluded]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                names.append((here / name).relative_to(folder).as_posix())
    if not names:
        raise UserError(f"--input {folder}: no image in this folder or below it ({' '.join(IMAGE_SUFFIXES)})")
    return sorted(names)


def read_images(folder: Path, names: list[str], skip: Callable[[str], None] | None) -> Iterator[Frame]:
    """Decode images one after the other, turned upright as their EXIF data say.

    Args:
        folder: that the names are relative to.
        names: as :func:`find_images` returns them.
        skip: told why an image is left out; None: the first unreadable image is an error.

    Raises:
        UserError: if an image cannot be read and ``skip`` is None; names it.
    """
    for index, name in enumerate(names):
        try:
            image = decode_image(folder / name, None)
        except UserError as error:
            if skip is None:
                hint = "\n--on-unreadable skip goes on with the other images" if len(names) > 1 else ""
                raise UserError(f"{error}{hint}") from error
            skip(str(error))
            continue
        yield Frame(name, index, image)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video and close it at the end.

    Raises:
        UserError: if OpenCV cannot read it.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(f"--input {path}: not a video that OpenCV can read (damaged, or an unknown codec)")
        fps = capture.get(cv2.CAP_PROP_FPS)
        num_frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        yield Video(
            path,
            capture,
            fps=fps if np.isfinite(fps) and fps > 0 else 25.0,
            num_frames=int(num_frames) if np.isfinite(num_frames) and num_frames > 0 else 0,
        )
    finally:
        capture.release()


def read_frames(video: Video) -> Iterator[Frame]:
    """Decode the frames of a video one after the other.

    Raises:
        UserError: if not even the first frame can be decoded.
    """
    index = 0
    while True:
        is_read, image = video.capture.read()
        if not is_read:
            break
        yield Frame(video.path.name, index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8))
        index += 1
    if index == 0:
        raise UserError(f"--input {video.path}: not one frame of this video can be decoded")
