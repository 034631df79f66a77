"""The SHA-256 beside a file, and files replaced so that a kill at any moment leaves file and checksum in agreement."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO


def digest_path(path: Path) -> Path:
    """Return where the checksum of a file stands: ``NAME.sha256``."""
    return path.with_name(f"{path.name}.sha256")


def read_digests(path: Path) -> list[str]:
    """Return the checksums that a file may have: one, or two if it was being replaced when the process ended."""
    lines = digest_path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split(maxsplit=1)[0] for line in lines if line.strip()]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_with_digest(temporary: Path, path: Path, digest: str) -> None:
    """Give a finished file its name, and its checksum beside it (``sha256sum -c`` reads it).

    File and checksum are two files, and no file system replaces two at once. So the checksum first allows both, the old
    content and the new one.

    Args:
        temporary: the file, complete and flushed to the disk, in the same folder.
        path: its name; what had it before is gone then.
        digest: SHA-256 of the file.

    Raises:
        OSError: the disk is full, say.
    """
    before = read_digests(path) if path.exists() and digest_path(path).exists() else []
    write_digests(path, [digest, *(old for old in before if old != digest)])
    temporary.replace(path)
    write_digests(path, [digest])


def write_digests(path: Path, digests: list[str]) -> None:
    """Write the checksums that a file may have beside it."""
    target = digest_path(path)
    temporary = target.with_name(f"{target.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{digest}  {path.name}\n" for digest in digests)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def remove_with_digest(path: Path) -> None:
    """Remove a file and its checksum; the file first, so that none is left without."""
    path.unlink(missing_ok=True)
    digest_path(path).unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Bring names that were given or taken in a folder to the disk: a power cut does not undo them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HashingFile:
    """A file to write to that computes the SHA-256 of what was meant to be written on the way.

    Args:
        file: opened for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and count in."""
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def hexdigest(self) -> str:
        """Return the SHA-256 of all that was written, in hexadecimal."""
        return self._hash.hexdigest()
