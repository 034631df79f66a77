"""Write a dataset in any format, and read it back to see that nothing was lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np

from detector.data.formats.content import DatasetContent, FormatName
from detector.data.formats.limits import Fitted, fit_to
from detector.data.formats.placing import place_images
from detector.data.formats.verify import check_written
from detector.data.formats.write_coco import write_coco
from detector.data.formats.write_csv import write_csv
from detector.data.formats.write_voc import write_voc
from detector.data.formats.write_yolo import write_yolo
from detector.data.image_sizes import read_image_sizes
from detector.errors import UserError


def write_dataset(
    folder: Path, form: FormatName, splits: Mapping[str, DatasetContent], *, copy_images: bool
) -> dict[str, Fitted]:
    """Write a dataset with its images.

    Args:
        folder: an empty folder, an absolute path.
        form: the format to write.
        splits: what to write, by the names of the splits: all with the same classes, and all sizes known.
        copy_images: copy the images; else they are links to the files where they are.

    Returns:
        What was written, and what could not be, by the names of the splits.

    Raises:
        UserError: an image is missing, a name cannot be written, or there is no room.
        RuntimeError: the dataset does not read back as it was.
    """
    fitted = {split: fit_to(content, form) for split, content in splits.items()}
    contents = {split: part.content for split, part in fitted.items()}
    if form == "yolo":
        for content in contents.values():
            _check_sizes(content)
    match form:
        case "coco":
            places = write_coco(folder, contents)
        case "voc":
            places = write_voc(folder, contents)
        case "yolo":
            places = write_yolo(folder, contents)
        case "csv":
            places = write_csv(folder, contents)
        case _:
            assert_never(form)
    for split, content in contents.items():
        sources = [content.images_dir / name for name in content.file_names]
        place_images(sources, [folder / place for place in places[split]], copy=copy_images)
    for split, content in contents.items():
        check_written(folder, split, form, content, places[split])
    return fitted


def _check_sizes(content: DatasetContent) -> None:
    """Make sure that parts of an image mean the same to whoever has the file only."""
    rows = np.flatnonzero(content.boxes_per_image())
    sizes = read_image_sizes([content.images_dir / content.file_names[row] for row in rows.tolist()])
    wrong = np.flatnonzero((sizes != content.sizes[rows]).any(axis=1))
    if len(wrong):
        row = int(rows[wrong[0]])
        found, annotated = (" x ".join(map(str, size.tolist())) for size in (sizes[wrong[0]], content.sizes[row]))
        raise UserError(
            f"{content.images_dir / content.file_names[row]}: the image is shown as {found} pixels, but annotated as "
            f"{annotated} (height x width; {len(wrong)} such images). YOLO counts in parts of the image as it is "
            "shown: turn the pixels of images with an EXIF orientation, or correct the annotations"
        )
