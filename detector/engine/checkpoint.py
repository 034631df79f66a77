"""Reading checkpoint files: the newest intact one, checked against its checksum, and never executed."""

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from detector.engine.checksum import digest_path, read_digests, sha256_of
from detector.engine.exported import SUFFIX, read_exported
from detector.errors import UserError

FORMAT: Final = "retina-detector checkpoint"
VERSION: Final = 1

_STEP_FILE = re.compile(r"step-(\d{8})\.pt")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or exported weights, to the CPU. Reading runs no code: tensors and plain values only.

    Raises:
        UserError: if the file is missing, damaged, or no checkpoint of this program.
    """
    try:
        _check_integrity(path)
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from error
    if path.suffix == SUFFIX:
        return read_exported(path)
    if not zipfile.is_zipfile(path):  # torch.load would take it for a pickle, the format before PyTorch 1.6
        raise UserError(f"{path}: not a readable checkpoint (no file of torch.save, or one that was cut)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path}: not a readable checkpoint: it holds {name[1] if name else 'a Python object'}, and reading what "
            "is no tensor and no plain value could run code. Only files of this program are read, and weights alone (a "
            "state dict) by model.backbone.weights=FILE"
        ) from error
    except Exception as error:  # torch.load raises many kinds for a file that is no checkpoint
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable checkpoint ({reason[:200]})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path}: a PyTorch file, but not a checkpoint of this program, such as RUN/checkpoints/best.pt; weights "
            "of a backbone from elsewhere are for model.backbone.weights=FILE"
        )
    if content.get("version") != VERSION:
        raise UserError(f"{path}: checkpoint version {content.get('version')}, this program reads version {VERSION}")
    return content


def _check_integrity(path: Path) -> None:
    """Compare a file with the checksum beside it; without one, its records with their CRC-32 within it.

    torch.load would take a flipped bit in a weight for the weight.
    """
    if not path.is_file():
        found = "is a folder, expected a file such as last.pt" if path.is_dir() else "no such checkpoint file"
        raise UserError(f"{path}: {found}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the checkpoint file is empty")
    if not digest_path(path).is_file():
        if zipfile.is_zipfile(path) and (record := _first_damaged_record(path)) is not None:
            raise UserError(f"{path}: the checkpoint is damaged: its record {record} does not fit its CRC-32")
        return
    expected, found = read_digests(path), sha256_of(path)
    if found not in expected:
        raise UserError(
            f"{path}: the checkpoint is damaged: its SHA-256 is {found}, but {digest_path(path).name} says "
            f"{' or '.join(expected) or 'nothing'}"
        )


def _first_damaged_record(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except zipfile.BadZipFile as error:
        return f"table ({error})"


def find_newest_checkpoint(folder: Path) -> tuple[tuple[Path, dict[str, Any]] | None, list[str]]:
    """Return the newest step file that is intact (or ``last.pt``) with its content, and what is wrong with newer."""
    problems: list[str] = []
    last = folder / "last.pt"  # the only one left where the others were removed to free the disk
    for path in [*reversed(step_files(folder)), *([last] if last.exists() else [])]:
        try:
            return (path, load_checkpoint(path)), problems
        except UserError as error:
            problems.append(str(error))
    return None, problems


def step_files(folder: Path) -> list[Path]:
    """Return the ``step-*.pt`` files of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _STEP_FILE.fullmatch(path.name))
