"""From images and boxes that a reader met one by one to the columns of :class:`DatasetContent`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.data.formats.content import DatasetContent, FormatName
from detector.errors import UserError
from detector.structures import Categories, Size


class FoundImage(NamedTuple):
    """An image: its path relative to the image folder, its (height, width), and the file with its boxes."""

    name: str
    size: Size
    box_file: str


class FoundBox(NamedTuple):
    """A box: row of its image, (x, y, width, height) in pixels, class, where it stands, whether it is difficult."""

    image: int
    box: tuple[float, float, float, float]
    label: int
    number: int
    is_ignored: bool = False


def assemble(
    form: FormatName,
    path: Path,
    images_dir: Path,
    images: Sequence[FoundImage],
    boxes: Sequence[FoundBox],
    categories: Categories,
) -> DatasetContent:
    """Return what a reader found as a dataset's content; image ids count from 1 on.

    Args:
        form: the format it was read from.
        path: the file or folder it was read from.
        images_dir: folder of the images.
        images: at least one. Where their box files are all empty, ``path`` holds all boxes.
        boxes: any number.
        categories: the classes, with ``label`` as index.
    """
    is_one_file = not any(image.box_file for image in images)
    return DatasetContent(
        format=form,
        path=path,
        images_dir=images_dir,
        image_ids=np.arange(1, len(images) + 1),
        sizes=np.array([image.size for image in images], dtype=np.int64).reshape(-1, 2),
        file_names=[image.name for image in images],
        boxes=np.array([box.box for box in boxes], dtype=np.float64).reshape(-1, 4),
        image_index=np.array([box.image for box in boxes], dtype=np.int64),
        labels=np.array([box.label for box in boxes], dtype=np.int64),
        is_ignored=np.array([box.is_ignored for box in boxes], dtype=np.bool_),
        areas=np.full(len(boxes), np.nan),
        annotation_ids=np.full(len(boxes), -1, dtype=np.int64),
        box_numbers=np.array([box.number for box in boxes], dtype=np.int64),
        box_files=None if is_one_file else [image.box_file for image in images],
        categories=categories,
    )


class ClassNames:
    """The classes of a format without a list of them: names as they turn up, in alphabetical order at the end."""

    def __init__(self) -> None:
        self._labels: dict[str, int] = {}

    def label_of(self, name: str) -> int:
        """Return a number for a name, the same one each time."""
        return self._labels.setdefault(name, len(self._labels))

    def sort(self, path: Path, boxes: Sequence[FoundBox]) -> tuple[Categories, list[FoundBox]]:
        """Number the classes alphabetically.

        Args:
            path: of the dataset, for the message.
            boxes: with labels of :meth:`label_of`.

        Returns:
            The classes with ids from 1 on, and the boxes with labels in their order.

        Raises:
            UserError: there is no class.
        """
        names = sorted(self._labels)
        if not names:
            raise UserError(f"{path}: no image has an object, so there is no class; expected at least one object")
        place = {name: index for index, name in enumerate(names)}
        new_label = [place[name] for name in self._labels]
        categories = Categories(tuple(range(1, len(names) + 1)), tuple(names))
        return categories, [box._replace(label=new_label[box.label]) for box in boxes]
