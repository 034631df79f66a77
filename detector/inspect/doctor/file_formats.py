"""Image files that are turned, named after another format, or used by no annotation."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import numpy as np
from PIL import Image

from detector.inspect.doctor.file_checks import facts_of, has_other_size, image_flags, keeps_size_when_turned
from detector.inspect.doctor.finding import Example, Finding, share
from detector.inspect.doctor.image_reading import list_files
from detector.inspect.doctor.split import Split

_SAME_FORMAT: Final = {"MPO": "JPEG"}
"""Files that may have the other format's suffix: MPO is a JPEG with more pictures behind it, as some cameras write."""


def find_turned_images(split: Split) -> list[Finding]:
    """Find images with an EXIF orientation, and say what decoding does with each kind."""
    facts, annotated = facts_of(split), [tuple(size) for size in split.content.sizes.tolist()]
    is_turned = image_flags(split, lambda found: found.orientation != 1 and found.stored_size is not None)
    is_turned &= ~has_other_size(split)
    # Where turning leaves the size as it is, the annotated size cannot say which of the two was annotated.
    is_open = is_turned & keeps_size_when_turned(split) & ~split.content.is_measured
    stays = is_turned & np.array([found.stored_size == size for found, size in zip(facts, annotated, strict=True)])
    stays &= ~split.content.is_measured
    num_stored, num_open = int((stays & ~is_open).sum()), int(is_open.sum())
    num_shown = int(is_turned.sum()) - num_stored - num_open
    findings = []
    if num_open:
        findings.append(
            Finding(
                "ambiguous-orientation",
                "warning",
                split.name,
                f"{share(num_open, split.content.num_images, 'images')} with an EXIF orientation that keeps their "
                "size; they are used as they are stored",
                num_open,
                "see in the pictures whether the boxes fit; if not, save these images upright, without the EXIF entry",
                examples=split.image_examples(is_open, lambda row: f"orientation {facts[row].orientation}"),
            )
        )
    if num_stored + num_shown:
        sized = is_turned & ~is_open
        findings.append(
            Finding(
                "exif-orientation",
                "note",
                split.name,
                f"{share(num_stored + num_shown, split.content.num_images, 'images')} with an EXIF orientation; by "
                f"their annotated sizes, if they have any, {num_shown} are turned upright and {num_stored} are used as "
                "they are stored",
                num_stored + num_shown,
                examples=split.image_examples(sized, lambda row: f"orientation {facts[row].orientation}"),
            )
        )
    return findings


def find_wrong_suffixes(split: Split) -> list[Finding]:
    """Find files whose name says another format than their content."""
    known, facts = Image.registered_extensions(), facts_of(split)
    named = [known.get(PurePath(name).suffix.lower(), "") for name in split.content.file_names]
    flags = np.array(
        [bool(name and found.format) and name != _plain(found.format) for name, found in zip(named, facts, strict=True)]
    )
    if not flags.any():
        return []
    return [
        Finding(
            "wrong-suffix",
            "note",
            split.name,
            f"{share(int(flags.sum()), split.content.num_images, 'images')} whose content is of another format than "
            "their name says; harmless here, other programs may refuse them",
            int(flags.sum()),
            examples=split.image_examples(flags, lambda row: f"the content is {_plain(facts[row].format)}"),
        )
    ]


def find_unnamed_images(splits: Sequence[Split]) -> list[Finding]:
    """Find images beside those of the annotations that no split names."""
    findings = []
    suffixes = set(Image.registered_extensions()) - {".pdf", ".mpg", ".mpeg"}  # written by Pillow, or no pictures
    for folder in dict.fromkeys(split.content.images_dir for split in splits):
        users = [split for split in splits if split.content.images_dir == folder]
        named = {name for split in users for name in split.content.file_names}
        folders = sorted({name.rpartition("/")[0] for name in named})
        found = [f"{sub}/{name}" if sub else name for sub in folders for name in list_files(folder / sub)]
        unnamed = [name for name in found if name not in named and PurePath(name).suffix.lower() in suffixes]
        if unnamed:
            limit = users[0].num_examples
            findings.append(
                Finding(
                    "unnamed-images",
                    "note",
                    " and ".join(split.name for split in users),
                    f"{len(unnamed):,} images in {folder} that the annotations do not name; they are not used",
                    len(unnamed),
                    "fine if they belong to another split; an image without objects must be named to be learnt from",
                    examples=tuple(Example(name) for name in unnamed[:limit]),
                )
            )
    return findings


def _plain(name: str) -> str:
    return _SAME_FORMAT.get(name, name)
