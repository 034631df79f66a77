"""Facts of image files, kept from one check to the next so that no image is decoded twice.

One JSON file for each image folder, in the user's cache folder, never beside the images. It may be deleted at any
time; what is wrong with it makes it worthless, not an error.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import PIL

from detector.errors import UserError
from detector.evaluation.json_files import write_atomically
from detector.inspect.doctor.image_facts import ImageFacts

DOCTOR_VERSION: Final = 1
"""To be raised when facts of the same file change."""

Fingerprint = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: another one means another file."""

CachedFacts = dict[str, tuple[Fingerprint, ImageFacts]]
"""By file name, relative to the image folder."""


def cache_folder() -> Path:
    """Return the program's folder for what can be computed again (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "retina-detector"


def cache_file(images_dir: Path) -> Path:
    """Return the file that keeps the facts of a folder's images."""
    name = hashlib.blake2b(os.fsencode(images_dir.resolve()), digest_size=16).hexdigest()
    return cache_folder() / "dataset-doctor" / f"{name}.json"


def load_cached_facts(images_dir: Path) -> CachedFacts:
    """Return what earlier checks found in a folder; nothing where there was none, or another version wrote it."""
    try:
        document = json.loads(cache_file(images_dir).read_bytes())
        if document["versions"] != _versions():
            return {}
        return {name: _parse(entry) for name, entry in document["images"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        return {}  # no cache, no home folder, or a broken one


def save_cached_facts(images_dir: Path, facts: Mapping[str, tuple[Fingerprint, ImageFacts]]) -> None:
    """Keep facts for the next check; readable for this user only. Where that is not possible, nothing happens."""
    images = {name: _as_list(fingerprint, found) for name, (fingerprint, found) in facts.items()}
    with contextlib.suppress(OSError, UserError, RuntimeError):
        path = cache_file(images_dir)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)  # file names may say much
        write_atomically(path, [json.dumps({"versions": _versions(), "images": images})])
        path.chmod(0o600)


def _versions() -> list[Any]:
    """Return whose word the facts are: another decoder may read what this one cannot."""
    return [DOCTOR_VERSION, cv2.__version__, PIL.__version__]


def _as_list(fingerprint: Fingerprint, facts: ImageFacts) -> list[Any]:
    return [*fingerprint, facts.problem, facts.stored_size, facts.orientation, facts.format, facts.digest]


def _parse(entry: list[Any]) -> tuple[Fingerprint, ImageFacts]:
    num_bytes, changed, problem, size, orientation, content_format, digest = entry
    if not (isinstance(orientation, int) and all(isinstance(text, str) for text in (problem, content_format, digest))):
        raise TypeError("not what was written")
    facts = ImageFacts(
        problem=problem,
        stored_size=None if size is None else (int(size[0]), int(size[1])),
        orientation=orientation,
        format=content_format,
        digest=digest,
    )
    return (int(num_bytes), int(changed)), facts
