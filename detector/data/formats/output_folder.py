"""The folder that a conversion makes: there as a whole or not at all, and never in place of somebody's files."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from detector.errors import UserError

_MARK: Final = ".converted.json"
"""A file that says of a folder that a conversion made it, and of what, so that it may be replaced."""

_MAX_NAMES: Final = 5  # in a message

_ENTRIES: Final = "entries"
"""Key of the mark: the names at the top level of the folder."""


def check_output(folder: Path, inputs: list[Path], *, overwrite: bool) -> None:
    """Make sure, before any work, that a folder may be made or replaced.

    Args:
        folder: the folder to make.
        inputs: files and folders that are read, which must not be in it.
        overwrite: replace the folder, if a conversion made it and nothing at its top level is from anyone else.

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
    if foreign := _foreign_entries(folder):
        names = ", ".join(foreign[:_MAX_NAMES]) + (", ..." if len(foreign) > _MAX_NAMES else "")
        raise UserError(f"{folder}: the folder holds files that no conversion wrote ({names}); choose another one")
    for path in inputs:
        if path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder}: cannot be replaced, as {path} in it is read; choose another folder")


def _foreign_entries(folder: Path) -> list[str]:
    """Return the names in a folder that are from somebody else than the conversion that its mark is of."""
    try:
        mark = json.loads((folder / _MARK).read_bytes())
        own = {_MARK, *mark[_ENTRIES]}
    except (OSError, ValueError, TypeError, KeyError):
        own = set()
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


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
        mark = {**description, _ENTRIES: sorted(path.name for path in new.iterdir())}
        (new / _MARK).write_text(json.dumps(mark) + "\n", encoding="utf-8")
        _replace(folder, new, work / "old")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    finally:
        # Errors here must not hide one from above; and an old folder that could not be put back must stay.
        shutil.rmtree(work / "new", ignore_errors=True)
        with suppress(OSError):
            work.rmdir()


def _replace(folder: Path, new: Path, old: Path) -> None:
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except BaseException:  # Ctrl-C too: what was there before is never lost
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
