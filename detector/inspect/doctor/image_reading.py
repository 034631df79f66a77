"""Look at all image files of a split: decode those that no earlier check has decoded."""

import os
import stat
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from detector.data.formats.content import DatasetContent
from detector.inspect.doctor.image_cache import CachedFacts, Fingerprint, load_cached_facts, save_cached_facts
from detector.inspect.doctor.image_facts import ImageFacts, read_image_facts

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how far a job is, such as :meth:`detector.telemetry.RunConsole.progress`."""

_NUM_THREADS: Final = min(8, os.cpu_count() or 1)  # OpenCV decodes outside Python's lock
_MISSING: Final = ImageFacts(is_missing=True)


class ImageReader:
    """Reads facts of image files, each file once: what is known lies in memory and in the user's cache.

    Args:
        progress: shows how far it is; None shows nothing.

    Attributes:
        num_decoded: files that were decoded.
        num_cached: files whose facts were known from an earlier check.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._known: dict[Path, CachedFacts] = {}
        self._seen: set[Path] = set()
        self.num_decoded = 0
        self.num_cached = 0

    def read(self, content: DatasetContent) -> list[ImageFacts]:
        """Return the facts of each image of a split, in its order."""
        folder = content.images_dir
        prints = {name: _fingerprint(folder / name) for name in content.file_names}
        if folder not in self._known:
            self._known[folder] = load_cached_facts(folder)
        known = self._known[folder]
        wanted = {name: found for name, found in prints.items() if found and known.get(name, (None, None))[0] != found}
        new = {folder / name for name, found in prints.items() if found and name not in wanted} - self._seen
        self.num_cached += len(new)
        self._seen |= {folder / name for name in prints}
        if wanted:
            try:
                self._decode(folder, wanted, known)
            finally:  # also when it is interrupted: what was decoded was decoded
                save_cached_facts(folder, known)
        return [known[name][1] if prints[name] else _MISSING for name in content.file_names]

    def _decode(self, folder: Path, wanted: dict[str, Fingerprint], known: CachedFacts) -> None:
        showing = self._progress("decoding images", len(wanted)) if self._progress else nullcontext(lambda _: None)
        with showing as advance, warnings.catch_warnings(), ThreadPoolExecutor(max_workers=_NUM_THREADS) as pool:
            # Pillow's remarks on large images and odd EXIF blocks: none is a reason to stop. Not in the threads, which
            # share one list of filters.
            warnings.simplefilter("ignore")
            try:
                facts = pool.map(read_image_facts, [folder / name for name in wanted])
                for (name, fingerprint), found in zip(wanted.items(), facts, strict=True):
                    known[name] = (fingerprint, found)
                    self.num_decoded += 1
                    advance(1)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # do not decode the rest first
                raise


def look_for_files(content: DatasetContent) -> list[ImageFacts]:
    """Return for each image whether its file is there, without reading any."""
    names_in: dict[str, set[str]] = {}
    facts = []
    for file_name in content.file_names:
        folder, _, name = file_name.rpartition("/")
        if folder not in names_in:
            names_in[folder] = set(list_files(content.images_dir / folder))
        facts.append(ImageFacts() if name in names_in[folder] else _MISSING)
    return facts


def list_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, in order; none where it is missing or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _fingerprint(path: Path) -> Fingerprint | None:
    """Return size and time of a file's last change; None where there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns)
