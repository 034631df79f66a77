"""YOLO: one text file an image, boxes in parts of the image's sides, splits and classes in ``data.yaml``."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.data.formats.columns import FoundBox, FoundImage, assemble
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.formats.yolo_labels import read_labels
from detector.data.formats.yolo_layout import find_split
from detector.data.image_sizes import find_image_sizes
from detector.structures import Categories


def read_yolo(path: Path, split: str | None = None, images_dir: Path | None = None) -> DatasetContent:
    """Read a split of a dataset in YOLO format.

    Args:
        path: folder of the dataset or its data.yaml; see :mod:`detector.data.formats.yolo_layout`.
        split: its name; None = the only one.
        images_dir: folder of the images, for a dataset without data.yaml; None = where they are usually.

    Returns:
        Its content, with 0 ... K-1 as ids of the classes. An image without a label file, or with an empty one, has no
        boxes. The sizes of images with boxes, which turn parts into pixels, are read from their headers; where that
        fails, the size is UNKNOWN_SIZE and the boxes are NaN, for others to report.

    Raises:
        UserError: folders or files are missing, or a file is not what the format says; names file and line.
    """
    found = find_split(path, split, images_dir)
    images: list[FoundImage] = []
    boxes: list[FoundBox] = []
    for row, (name, file) in enumerate(zip(found.file_names, found.label_files, strict=True)):
        box_file = "" if file is None else os.path.relpath(file, found.root)
        images.append(FoundImage(name, (UNKNOWN_SIZE, UNKNOWN_SIZE), box_file))
        if file is not None:
            objects = read_labels(file, len(found.class_names), found.num_keypoint_values)
            boxes += (FoundBox(row, line.box, line.label, line.line) for line in objects)
    categories = Categories(tuple(range(len(found.class_names))), tuple(found.class_names))
    return _to_pixels(assemble("yolo", path, found.images_dir, images, boxes, categories))


def _to_pixels(content: DatasetContent) -> DatasetContent:
    """Read the sizes of images with boxes, and multiply the boxes by them; by NaN where an image is unreadable."""
    rows = np.flatnonzero(content.boxes_per_image())
    paths = [content.images_dir / content.file_names[row] for row in rows.tolist()]
    found = find_image_sizes(paths)
    is_found = (found != UNKNOWN_SIZE).all(axis=1)
    content = content.with_measured_sizes(rows[is_found], found[is_found])
    factors = np.where(content.sizes == UNKNOWN_SIZE, np.nan, content.sizes)
    scale = np.tile(factors[content.image_index][:, ::-1], 2)  # [B, 4] as (width, height, width, height)
    return replace(content, boxes=content.boxes * scale)
