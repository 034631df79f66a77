"""The folder that a command writes pictures to."""

import contextlib
from pathlib import Path

from detector.errors import UserError


def make_output_folder(folder: Path) -> None:
    """Make the folder of ``--output`` before the work is done; what lies in it stays.

    Raises:
        UserError: it is a file or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder}: is a file, expected a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder}: the folder cannot be made: {error.strerror}") from error


def remove_numbered_pictures(folder: Path) -> None:
    """Remove the pictures ``NNN_NAME.jpg`` that an earlier call wrote to a folder of its own; others stay.

    With fewer pictures than that call had, the rest would pass for this one's.
    """
    for path in folder.glob("[0-9][0-9][0-9]_*.jpg"):
        with contextlib.suppress(OSError):  # what cannot be removed is none of the pictures written now
            path.unlink()
