"""Checkpoint files on the disk: written whole or not at all, the last few and the best kept."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from detector.engine.checkpoint import FORMAT, VERSION, step_files
from detector.engine.checksum import (
    HashingFile,
    digest_path,
    flush_folder,
    read_digests,
    remove_with_digest,
    replace_with_digest,
    sha256_of,
    write_digests,
)
from detector.errors import UserError


def save_checkpoint(folder: Path, content: Mapping[str, Any], *, step: int, is_best: bool, keep: int) -> Path:
    """Write ``step-NNNNNNNN.pt`` and point ``last.pt`` (and ``best.pt``) to it.

    Each file is written under a temporary name, flushed to the disk and renamed, and has its SHA-256 beside it
    (``NAME.sha256``); the folder is flushed before older files go. ``last`` and ``best`` are hard links where the file
    system has them.

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = _write(path, content)
        for name in ["last", *(["best"] if is_best else [])]:
            _link(path, folder / f"{name}.pt", digest)
        flush_folder(folder)
        for old in [file for file in step_files(folder) if file <= path][:-keep]:
            remove_with_digest(old)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch.save ends with an error of its own
        if not isinstance(cause, OSError):
            raise
        remove_temporary_files(folder)
        raise UserError(f"{path}: the checkpoint cannot be written: {cause.strerror or cause}") from error
    return path


def tidy_checkpoints(folder: Path, step: int, *, best_step: int) -> None:
    """Finish what a kill has interrupted: temporary files go, ``last.pt`` and ``best.pt`` point where they should.

    Args:
        folder: ``checkpoints`` of the run folder; may be missing.
        step: steps done at the checkpoint that the run continues from.
        best_step: where the highest AP so far was.

    Raises:
        OSError: it cannot be written.
    """
    remove_temporary_files(folder)
    for name, wanted in (("last", step), ("best", best_step)):
        source, target = folder / f"step-{wanted:08d}.pt", folder / f"{name}.pt"
        if (digest := _intact_digest(source)) is not None:
            if not (target.exists() and sha256_of(target) == digest):
                _link(source, target, digest)
        elif not source.exists() and any(_is_copy(target, path) for path in folder.glob("abandoned-*.pt")):
            remove_with_digest(target)  # of a course that this run has left; it stays under that name


def set_aside_later_checkpoints(folder: Path, step: int) -> list[Path]:
    """Rename ``step-*.pt`` files above ``step`` to ``abandoned-*.pt``, and return their new names.

    For a run that continues from an earlier step: they are of a course that is no longer this run's, and ``--resume``
    would take the newest of them for it. Each keeps its checksum: one that is damaged stays known as damaged.
    """
    renamed = []
    for path in step_files(folder):
        if int(path.stem.removeprefix("step-")) > step:
            target = path.with_name(path.name.replace("step-", "abandoned-"))
            if digest_path(path).is_file():
                write_digests(target, read_digests(path))
            else:
                digest_path(target).unlink(missing_ok=True)  # of an earlier file of that name
            path.replace(target)
            digest_path(path).unlink(missing_ok=True)
            renamed.append(target)
    return renamed


def _intact_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it is missing, or is not what its checksum says."""
    if not path.exists():
        return None
    digest = sha256_of(path)
    return digest if not digest_path(path).is_file() or digest in read_digests(path) else None


def _is_copy(path: Path, other: Path) -> bool:
    """Return whether two files are there with one checksum."""
    files = [path, other, digest_path(path), digest_path(other)]
    return all(file.exists() for file in files) and read_digests(path) == read_digests(other)


def remove_temporary_files(folder: Path) -> None:
    """Remove what a write left that did not come to its end."""
    with contextlib.suppress(OSError):
        for path in folder.glob("*.tmp"):
            path.unlink(missing_ok=True)


def _write(path: Path, content: Mapping[str, Any]) -> str:
    """Write a file and return its SHA-256."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        hashing = HashingFile(file)
        torch.save({"format": FORMAT, "version": VERSION, **content}, cast(BinaryIO, hashing))
        file.flush()
        os.fsync(file.fileno())
    replace_with_digest(temporary, path, hashing.hexdigest())
    return hashing.hexdigest()


def _link(source: Path, target: Path, digest: str) -> None:
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        _flush(temporary)
    replace_with_digest(temporary, target, digest)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
