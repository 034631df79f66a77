"""Checkpoint files: written whole or not at all, checked when read, and never executed."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from detector.errors import UserError

FORMAT: Final = "retina-detector checkpoint"
VERSION: Final = 1

_STEP_FILE = re.compile(r"step-(\d{8})\.pt")


def save_checkpoint(folder: Path, content: Mapping[str, Any], *, step: int, is_best: bool, keep: int) -> Path:
    """Write ``step-NNNNNNNN.pt`` and point ``last.pt`` (and ``best.pt``) to it.

    Each file is written under a temporary name, flushed to the disk and renamed, and has its SHA-256 beside it
    (``NAME.sha256``, to be checked by ``sha256sum -c`` too). ``last`` and ``best`` are hard links where the file system
    has them.

    Args:
        folder: ``checkpoints`` of the run folder; made if missing.
        content: tensors and plain values.
        step: optimiser steps done.
        is_best: whether ``best.pt`` becomes this one.
        keep: how many ``step-*.pt`` files stay; older ones are removed.

    Returns:
        The step's file.

    Raises:
        UserError: if it cannot be written, because the disk is full, say; the checkpoints before it stay.
    """
    path = folder / f"step-{step:08d}.pt"
    temporary = path.with_suffix(".pt.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "version": VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save ends with an error of its own
        if not isinstance(cause, OSError):
            raise
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: the checkpoint cannot be written: {cause.strerror or cause}") from error
    digest = _sha256(temporary)
    temporary.replace(path)
    _write_digest(path, digest)
    for name in ["last", *(["best"] if is_best else [])]:
        _link(path, folder / f"{name}.pt")
        _write_digest(folder / f"{name}.pt", digest)
    for old in [file for file in step_files(folder) if file <= path][:-keep]:
        old.unlink()
        _digest_path(old).unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU. Only tensors and plain values are accepted: reading runs no code.

    Raises:
        UserError: if the file is missing, damaged, or no checkpoint of this program.
    """
    try:
        _check_digest(path)
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be read: {error.strerror or error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
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


def _check_digest(path: Path) -> None:
    """Compare a file with the checksum beside it, if there is one."""
    if not path.is_file():
        found = "is a folder, expected a file such as last.pt" if path.is_dir() else "no such checkpoint file"
        raise UserError(f"{path}: {found}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the checkpoint file is empty")
    digest_path = _digest_path(path)
    if not digest_path.is_file():
        return
    expected = digest_path.read_text(encoding="utf-8", errors="replace").split(maxsplit=1)[:1]
    found = _sha256(path)
    if expected != [found]:
        raise UserError(
            f"{path}: the checkpoint is damaged: its SHA-256 is {found}, but {digest_path.name} says "
            f"{expected[0] if expected else 'nothing'}"
        )


def set_aside_later_checkpoints(folder: Path, step: int) -> list[Path]:
    """Rename ``step-*.pt`` files above ``step`` to ``abandoned-*.pt``, and return their new names.

    For a run that continues from an earlier step: they are of a course that is no longer this run's, and ``--resume``
    would take the newest of them for it.
    """
    renamed = []
    for path in step_files(folder):
        if int(path.stem.removeprefix("step-")) > step:
            target = path.with_name(path.name.replace("step-", "abandoned-"))
            path.replace(target)
            _digest_path(path).unlink(missing_ok=True)
            _write_digest(target, _sha256(target))
            renamed.append(target)
    return renamed


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


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_digest(path: Path, digest: str) -> None:
    digest_path = _digest_path(path)
    temporary = digest_path.with_name(f"{digest_path.name}.tmp")
    temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    temporary.replace(digest_path)


def _link(source: Path, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
