"""The folder that a conversion makes: there as a whole or not at all, and never in place of somebody's files."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from detector.errors import UserError

_MARK: Final = ".converted.json"
"""A file that says of a folder that a conversion made it, so that it may be replaced."""


def check_output(folder: Path, inputs: list[Path], *, overwrite: bool) -> None:
    """Make sure, before any work, that a folder may be made or replaced.

    Args:
        folder: the folder to make.
        inputs: files and folders that are read, which must not be in it.
        overwrite: replace the folder, if a conversion made it.

    Raises:
        UserError: it may not; says why.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder}: is a {'link' if folder.is_symlink() else 'file'}, expected a folder to make")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise UserError(
            f"{folder}: the folder is not empty; choose another one, or replace a conversion by --overwrite"
        )
    if not (folder / _MARK).is_file():
        raise UserError(f"{folder}: the folder holds files that no conversion wrote; choose another one")
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder}: cannot be replaced, as {path} in it is read; choose another folder")


@contextmanager
def new_folder(folder: Path, description: dict[str, object]) -> Iterator[Path]:
    """Give an empty folder beside ``folder``, which takes its place if all goes well, and else goes away.

    Args:
        folder: the folder to make or replace, after :func:`check_output`.
        description: what is said of its origin, in a hidden file.

    Yields:
        The empty folder, an absolute path.

    Raises:
        UserError: it cannot be made.
    """
    parent = folder.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=parent))
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
    try:
        new = work / "new"
        new.mkdir()
        yield new
        (new / _MARK).write_text(json.dumps(description) + "\n", encoding="utf-8")
        _replace(folder, new, work / "old")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(work)


def _replace(folder: Path, new: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
