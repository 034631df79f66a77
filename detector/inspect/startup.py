"""Checks of a dataset's images before a run starts, so that it does not stop hours later."""

import itertools
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data.dataset import DetectionDataset
from detector.data.decode import ImageError
from detector.errors import UserError

_NUM_NAMED = 5
_NUM_THREADS = 4  # OpenCV decodes outside Python's lock


@dataclass(frozen=True, slots=True)
class FilesPresent:
    """All image files are there, or all but some that training may skip.

    Attributes:
        num_images: images of the annotation file.
        num_folders: folders that hold them.
        missing: those that are not there, in their order.
    """

    num_images: int
    num_folders: int
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        folders = "" if self.num_folders == 1 else f" in {self.num_folders} folders"
        if self.missing:
            return f"{len(self.missing)} of {self.num_images} image files{folders} are missing: {_first(self.missing)}"
        return f"all {self.num_images} image files are there{folders}"


@dataclass(frozen=True, slots=True)
class SampleDecoded:
    """A sample of the images was decoded.

    Attributes:
        num_checked: images in the sample.
        problems: a message for each that cannot be read; empty unless these are to be skipped in training.
    """

    num_checked: int
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.problems:
            return f"{self.num_checked} of them decoded"
        return f"{len(self.problems)} of {self.num_checked} cannot be read:\n{_list(self.problems)}"


def check_files_present(dataset: DetectionDataset, *, max_missing: int = 0) -> FilesPresent:
    """Look whether every image file exists, with one listing per folder instead of one look-up per file.

    Args:
        dataset: its files are named relative to its image folder and may lie in folders below it.
        max_missing: so many may be missing, because training skips them: a run during which an image has vanished must
            be able to go on.

    Returns:
        What was counted.

    Raises:
        UserError: the image folder is missing or empty, or more files are missing; names the folder, how many and the
            first of them.
    """
    names_of_folder: defaultdict[str, set[str]] = defaultdict(set)
    for file_name in dataset.table.file_names:
        folder, _, name = file_name.rpartition("/")
        names_of_folder[folder].add(name)
    missing: list[str] = []
    for folder, names in names_of_folder.items():
        absent = names - _file_names_in(dataset.images_dir / folder)
        missing += [f"{folder}/{name}" if folder else name for name in absent]
    if len(missing) > min(max_missing, len(dataset) - 1):
        raise UserError(_describe_missing(dataset, sorted(missing)))
    return FilesPresent(len(dataset), len(names_of_folder), tuple(sorted(missing)))


def check_decodable(
    dataset: DetectionDataset, seed: int, num_images: int = 256, *, skip_unreadable: bool = False
) -> SampleDecoded:
    """Decode a random sample of the images and compare their sizes with the annotated ones.

    Args:
        dataset: images to sample from.
        seed: decides the sample.
        num_images: size of the sample; a smaller dataset is decoded as a whole.
        skip_unreadable: whether unreadable images are returned instead of raised, because training will skip them.

    Returns:
        What was decoded.

    Raises:
        UserError: images cannot be read and ``skip_unreadable`` is False; names the first of them.
    """
    num_checked = min(num_images, len(dataset))
    indices = np.random.default_rng(seed).choice(len(dataset), size=num_checked, replace=False)
    with ThreadPoolExecutor(max_workers=_NUM_THREADS) as pool:
        outcomes = pool.map(lambda index: _problem_of(dataset, index), sorted(indices.tolist()))
        problems = tuple(problem for problem in outcomes if problem is not None)
    if problems and not skip_unreadable:
        raise UserError(
            f"{dataset.images_dir}: {len(problems)} of {num_checked} sampled images cannot be read:\n{_list(problems)}"
        )
    return SampleDecoded(num_checked, problems)


def _problem_of(dataset: DetectionDataset, index: int) -> str | None:
    try:
        dataset[index]
    except ImageError as error:
        return str(error)
    return None


def _file_names_in(folder: Path) -> set[str]:
    """Return the names in a folder, folders excepted and links not followed; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot list the image folder: {error.strerror}") from error


def _describe_missing(dataset: DetectionDataset, missing: Sequence[str]) -> str:
    folder = dataset.images_dir
    if not folder.is_dir():
        return f"{folder}: the image folder does not exist; expected the images of {dataset.table.path}"
    with os.scandir(folder) as entries:
        found = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in itertools.islice(entries, 3))
    if not found:
        return f"{folder}: the image folder is empty; expected the {len(dataset)} images of {dataset.table.path}"
    text = (
        f"{folder}: {len(missing)} of the {len(dataset)} images that {dataset.table.path} names are missing: "
        f"{_first(missing)}"
    )
    return text + f"\nthe folder holds, for example: {', '.join(found)}"


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_NUM_NAMED])}{', ...' if len(names) > _NUM_NAMED else ''}"


def _list(problems: Sequence[str]) -> str:
    lines = [f"  {problem}" for problem in problems[:_NUM_NAMED]]
    return "\n".join([*lines, f"  and {len(problems) - _NUM_NAMED} more"] if len(problems) > _NUM_NAMED else lines)
