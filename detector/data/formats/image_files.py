"""Image files of a dataset's folder, found by name or by name without extension."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Final, Self

from detector.errors import UserError

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Extensions of image files, in small letters."""

_MAX_DEPTH = 16  # folders below folders; stops at links that multiply


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files below a folder of images.

    Attributes:
        folder: the folder.
        names: all files, as paths relative to it, with "/".
        by_stem: those with the extension of an image, by what is left without it, sorted.
    """

    folder: Path
    names: frozenset[str]
    by_stem: dict[str, list[str]]

    @classmethod
    def below(cls, folder: Path, *, recursive: bool = True) -> Self:
        """List the files of a folder and, if asked, of those below it.

        Raises:
            UserError: a folder cannot be listed.
        """
        names = list(list_files(folder, recursive=recursive))
        by_stem: dict[str, list[str]] = {}
        for name in sorted(filter(is_image, names)):
            by_stem.setdefault(stem(name), []).append(name)
        return cls(folder, frozenset(names), by_stem)


def is_image(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (pathlib takes ten times as long)


def stem(name: str) -> str:
    """Return a relative path without its extension."""
    return os.path.splitext(name)[0]  # noqa: PTH122 (as above)


def list_files(folder: Path, *, recursive: bool = True) -> Iterator[str]:
    """Yield the regular files of a folder, links to files and folders followed, hidden ones left out.

    Args:
        folder: the folder.
        recursive: also those below it; a link to a folder that it lies in is not followed.

    Yields:
        Paths relative to ``folder``, with "/"; in no particular order.

    Raises:
        UserError: a folder cannot be listed, or they are nested too deeply.
    """
    yield from _list(folder, "", recursive, ())


def _list(folder: Path, prefix: str, recursive: bool, parents: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        status = folder.stat()
        own = (status.st_dev, status.st_ino)
        if own in parents:
            return
        if len(parents) > _MAX_DEPTH:
            raise UserError(f"{folder}: more than {_MAX_DEPTH} folders inside each other")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                is_file, is_folder = _kind(entry)
                if is_file:
                    yield prefix + entry.name
                elif recursive and is_folder:
                    yield from _list(folder / entry.name, f"{prefix}{entry.name}/", recursive, (*parents, own))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Return whether an entry is a file and whether it is a folder; a link to itself is neither."""
    try:
        return entry.is_file(), entry.is_dir()
    except OSError:
        return False, False


def leaves_folder(name: str) -> bool:
    """Whether a file name of a dataset is no path inside its folder: absolute, on another drive, or with ".."."""
    is_rooted = name.startswith(("/", "\\"))
    if not (is_rooted or ".." in name or ":" in name or "\0" in name):  # a quick look: almost no name has any
        return False
    return is_rooted or bool(PurePath(name).drive) or "\0" in name or ".." in re.split(r"[/\\]", name)


def normalize(name: str) -> str:
    """Return a relative path without "./" and doubled slashes."""
    return str(PurePosixPath(name)) if "./" in name or "//" in name else name


def describe_folder(folder: Path) -> str:
    """Name the first entries of a folder, for an error message."""
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return f"cannot be listed: {error.strerror}"
    if not names:
        return "is empty"
    shown = ", ".join(names[:8])
    return f"holds {shown}" + (f", ... ({len(names)} entries)" if len(names) > 8 else "")
