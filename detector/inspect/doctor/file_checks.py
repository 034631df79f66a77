"""Image files that are missing, cannot be decoded, or are other than the annotations say."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Final

import numpy as np

from detector.data.formats.content import UNKNOWN_SIZE
from detector.inspect.doctor.finding import Example, Finding, share
from detector.inspect.doctor.image_facts import ImageFacts
from detector.inspect.doctor.image_reading import list_files
from detector.inspect.doctor.split import Flags, Split

_UNSIZED: Final = "its size cannot be read, so its boxes are lost"


def find_missing_images(split: Split) -> list[Finding]:
    """Find images that are named but not there."""
    flags = image_flags(split, lambda facts: facts.is_missing)
    if not flags.any():
        return []
    folder, total = split.content.images_dir, split.content.num_images
    finder = _Similar(folder)
    is_all = bool(flags.all())
    return [
        Finding(
            "missing-images",
            "error",
            split.name,
            f"{share(int(flags.sum()), total, 'images')} missing in {folder}",
            int(flags.sum()),
            "give the folder that the file names are relative to" if is_all else "add the files; --fix leaves them out",
            evidence=_describe_folder(folder) if is_all else "",
            examples=tuple(
                Example(example.text + finder.hint(split.content.file_names[example.image or 0]), split.name)
                for example in split.image_examples(flags)
            ),
        )
    ]


def find_unreadable_images(split: Split) -> list[Finding]:
    """Find images that cannot be decoded: empty, cut short, or no image."""
    flags = image_flags(split, lambda facts: bool(facts.problem))
    flags |= has_lost_boxes(split) & image_flags(split, lambda facts: not facts.is_missing)
    if not flags.any():
        return []
    # Training needs the sizes before it starts, and reads those that are not annotated from the images.
    is_sized = (split.content.sizes[flags] != UNKNOWN_SIZE).all()
    return [
        Finding(
            "unreadable-images",
            "error",
            split.name,
            f"{share(int(flags.sum()), split.content.num_images, 'images')} that cannot be read",
            int(flags.sum()),
            "fetch them anew; --fix leaves them out"
            + (", and data.on_unreadable=skip trains without them" if is_sized else ""),
            examples=tuple(
                Example(example.text, split.name)
                for example in split.image_examples(flags, lambda row: facts_of(split)[row].problem or _UNSIZED)
            ),
        )
    ]


def find_other_sizes(split: Split) -> list[Finding]:
    """Find images whose size is not the annotated one, turned as EXIF says or not."""
    flags = has_other_size(split)
    if not flags.any():
        return []
    content, facts = split.content, facts_of(split)
    rows = np.flatnonzero(flags).tolist()
    num_swapped = sum(tuple(content.sizes[row].tolist()) == (facts[row].stored_size or (0, 0))[::-1] for row in rows)

    return [
        Finding(
            "other-image-size",
            "error",
            split.name,
            f"{share(len(rows), content.num_images, 'images')} of another size than annotated; training stops there",
            len(rows),
            "the boxes were drawn on another version of the image: find it, or correct the annotated size if only that "
            "is wrong; --fix leaves the images out",
            evidence=f"in {num_swapped} of them width and height are swapped" if num_swapped else "",
            examples=split.image_examples(flags, lambda row: describe_other_size(split, row)),
        )
    ]


def has_other_size(split: Split) -> Flags:
    """Return [I] bool, True where an image's size is neither as stored nor as turned the annotated one."""
    sizes = [tuple(size) for size in split.content.sizes.tolist()]
    return np.array(
        [
            found.stored_size is not None
            and UNKNOWN_SIZE not in size
            and size not in (found.stored_size, found.shown_size)
            for found, size in zip(facts_of(split), sizes, strict=True)
        ],
        dtype=np.bool_,
    )


def has_lost_boxes(split: Split) -> Flags:
    """Return [I] bool, True where parts of an image's sides did not become pixels, as its size cannot be read."""
    content = split.content
    flags = np.zeros(content.num_images, dtype=np.bool_)
    if content.format == "yolo":
        flags[content.image_index[np.isnan(content.boxes).any(axis=1)]] = True
    return flags


def keeps_size_when_turned(split: Split) -> Flags:
    """Return [I] bool, True for images with an EXIF orientation that does not show in their size."""
    is_turned = image_flags(split, lambda facts: facts.orientation != 1 and facts.stored_size is not None)
    return is_turned & image_flags(split, lambda facts: facts.stored_size == facts.shown_size)


def unusable_images(split: Split) -> list[tuple[str, str]]:
    """Return path and reason of each image that training cannot use: missing, unreadable, or of another size."""
    content, facts, is_lost = split.content, facts_of(split), has_lost_boxes(split)

    def reason(row: int) -> str:
        if facts[row].is_missing:
            return "missing"
        return facts[row].problem or (_UNSIZED if is_lost[row] else describe_other_size(split, row))

    return [
        (str(content.images_dir / content.file_names[row]), reason(row))
        for row in np.flatnonzero(is_unusable(split)).tolist()
    ]


def describe_other_size(split: Split, row: int) -> str:
    """Return the annotated and the stored size of an image in words."""
    (height, width), stored = split.content.sizes[row].tolist(), facts_of(split)[row].stored_size or (0, 0)
    return f"annotated {width} x {height}, the file has {stored[1]} x {stored[0]} (width x height)"


def is_unusable(split: Split) -> Flags:
    """Return [I] bool, True for images that training cannot use: missing, unreadable, or of another size."""
    return image_flags(split, lambda facts: not facts.is_usable) | has_lost_boxes(split) | has_other_size(split)


class _Similar:
    """Files in the image folder whose names are almost those that are missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, dict[str, str]] = {}

    def hint(self, file_name: str) -> str:
        """Return what there is in place of a missing file, if it has its name but for case and suffix."""
        sub, _, name = file_name.rpartition("/")
        if sub not in self._names:
            self._names[sub] = {PurePath(other).stem.casefold(): other for other in list_files(self._folder / sub)}
        similar = self._names[sub].get(PurePath(name).stem.casefold())
        return f"; there is {similar}" if similar else ""


def _describe_folder(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder" if not folder.exists() else "it is a file, not a folder"
    try:
        names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    except OSError as error:
        return f"it cannot be listed: {error.strerror}"
    return f"the folder holds {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "it is empty"


def facts_of(split: Split) -> Sequence[ImageFacts]:
    """Return the facts of a split's image files, which someone must have looked at."""
    assert split.facts is not None
    return split.facts


def image_flags(split: Split, holds: Callable[[ImageFacts], bool]) -> Flags:
    """Return [I] bool, True where the facts of an image fulfil a condition."""
    return np.array([holds(facts) for facts in facts_of(split)], dtype=np.bool_)
