"""Read a dataset that was just written, and compare it with what it was made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent, FormatName
from detector.data.formats.limits import TOLERANCE, is_thin
from detector.data.formats.reading import DatasetSource, read_dataset


def check_written(folder: Path, split: str, form: FormatName, content: DatasetContent, places: Sequence[str]) -> None:
    """Make sure that a split reads back as it was: every image, its size, box and class.

    Args:
        folder: the dataset, an absolute path.
        split: its name.
        form: the format it was written in; it must also be found out by looking.
        content: what was written.
        places: where each image of ``content`` is, relative to ``folder``.

    Raises:
        RuntimeError: it does not, which is a mistake of the writer or the reader.
    """
    found = read_dataset(DatasetSource(folder, split=split))
    problem = f"it is taken for {found.format}" if found.format != form else _difference(folder, content, found, places)
    if problem is not None:
        raise RuntimeError(f"{folder}: split {split!r} in {form} format does not read back as it was: {problem}")


def _difference(folder: Path, content: DatasetContent, found: DatasetContent, places: Sequence[str]) -> str | None:
    """Return how two datasets differ; None = not at all."""
    base = found.images_dir.relative_to(folder)
    row_at = {(base / name).as_posix(): row for row, name in enumerate(found.file_names)}
    if found.num_images != content.num_images or row_at.keys() != set(places):
        return f"{found.num_images} images in place of {content.num_images}, or others"
    rows = np.array([row_at[place] for place in places], dtype=np.int64)
    if ((found.sizes[rows] != content.sizes) & (found.sizes[rows] != UNKNOWN_SIZE)).any():
        return "images have other sizes"
    if found.num_boxes != content.num_boxes:
        return f"{found.num_boxes} boxes in place of {content.num_boxes}"
    image = rows[content.image_index]
    before, after = np.argsort(image, kind="stable"), np.argsort(found.image_index, kind="stable")
    if not np.array_equal(image[before], found.image_index[after]):
        return "boxes belong to other images"
    if not np.array_equal(_class_names(content)[before], _class_names(found)[after]):
        return "boxes have other classes"
    if not np.array_equal(content.is_ignored[before], found.is_ignored[after]):
        return "other boxes are ignore regions"
    boxes = content.boxes[before]
    is_same = np.isclose(boxes, found.boxes[after], rtol=1e-9, atol=TOLERANCE, equal_nan=True)
    if found.format == "voc":
        is_same |= is_thin(boxes)[:, None]
    return None if is_same.all() else "boxes have other coordinates"


def _class_names(content: DatasetContent) -> npt.NDArray[np.object_]:
    return np.array(content.categories.names, dtype=object)[content.labels]
