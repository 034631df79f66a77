"""The folder of the images of an annotation file that does not say where it is."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from detector.data.formats.content import DatasetContent
from detector.data.formats.text_files import quote
from detector.errors import UserError

_NUM_TRIED: Final = 20
"""Images that are looked for: some may be missing."""

_ANNOTATIONS: Final = "annotations"
_IMAGES: Final = ("images", "JPEGImages")


def find_images_dir(content: DatasetContent, *names: str | None) -> Path:
    """Return the folder that has the images of an annotation file.

    Args:
        content: from the file ``path``.
        names: what the folder may be called, such as the name of the split.

    Returns:
        The first folder that holds one of the first images. Beside the file, or beside its folder ``annotations``,
        it is ``images/<name>``, ``<name>``, ``images``, or that place itself.

    Raises:
        UserError: none of them does.
    """
    places = list(dict.fromkeys(_places(content.path, [name for name in names if name])))
    tried = list(islice(content.file_names, _NUM_TRIED))
    for place in places:
        if any((place / name).is_file() for name in tried):
            return place
    looked = ", ".join(str(place) for place in places if place.is_dir())
    raise UserError(
        f"{content.path}: the images are not found: {quote(tried[0])} is in none of {looked}; name their folder with "
        "images, as in data.train.images=FOLDER"
    )


def _places(file: Path, names: list[str]) -> Iterator[Path]:
    home = file.parent
    roots = [home.parent, home] if home.name.lower() == _ANNOTATIONS else [home]
    for root in roots:
        for name in names:
            yield from (root / images / name for images in _IMAGES)
            yield root / name
        yield from (root / images for images in _IMAGES)
        yield root
