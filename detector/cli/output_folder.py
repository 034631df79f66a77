"""The folder that a command writes pictures to."""

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
