"""What a dataset says, whatever format it is written in: the common form that all readers give.

Letters: I images, B boxes, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from detector.structures import Categories

UNKNOWN_SIZE: Final = 0
"""Stands for a width or height that the dataset does not give."""

FormatName = Literal["coco", "voc", "yolo", "csv"]

Rows = npt.NDArray[np.int64] | npt.NDArray[np.bool_]
"""Numbers of rows, rising, or a flag for each row."""


@dataclass(frozen=True, slots=True)
class DatasetContent:
    """Images, boxes and classes of one split, as they are written, in the order they are written in.

    Attributes:
        format: what it was read from.
        path: the file or folder it was read from, for messages.
        images_dir: folder that ``file_names`` are relative to.
        image_ids: [I] int64, all different: the file's, or 1 ... I where the format has none.
        sizes: [I, 2] int64 (height, width) in pixels; UNKNOWN_SIZE where the dataset gives none.
        file_names: I paths relative to ``images_dir``, none of which leaves it.
        boxes: [B, 4] float64, (x, y, width, height) in pixels, continuous; any number, also NaN, as in YOLO datasets
            where an image is unreadable. A box that its format calls degenerate has a width or a height of 0 or less.
        image_index: [B] int64, row of the box's image in [0, I).
        labels: [B] int64 in [0, K).
        is_ignored: [B] bool, True for crowd regions and objects marked as difficult: neither object nor background.
        areas: [B] float64, the object's area in pixels where the file gives one (COCO's are those of masks), else NaN.
        annotation_ids: [B] int64, the file's ids where it has any, else -1.
        box_numbers: [B] int64, where a box stands: its place in COCO's list (from 0), the object of a VOC file (from
            1), the line of a text file (from 1).
        box_files: I files that hold an image's boxes, relative to ``path``; None where ``path`` holds all of them.
        categories: K >= 1 classes.
        measured: [I] bool, True where ``sizes`` was read from the image file, as viewers show it, because the dataset
            does not give it; None = nowhere.
    """

    format: FormatName
    path: Path
    images_dir: Path
    image_ids: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    file_names: Sequence[str]
    boxes: npt.NDArray[np.float64]
    image_index: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    is_ignored: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    annotation_ids: npt.NDArray[np.int64]
    box_numbers: npt.NDArray[np.int64]
    box_files: Sequence[str] | None
    categories: Categories
    measured: npt.NDArray[np.bool_] | None = None

    @property
    def num_images(self) -> int:
        """I."""
        return len(self.image_ids)

    @property
    def num_boxes(self) -> int:
        """B."""
        return len(self.boxes)

    @property
    def is_measured(self) -> npt.NDArray[np.bool_]:
        """[I] bool, ``measured`` where nothing is None."""
        return np.zeros(self.num_images, dtype=np.bool_) if self.measured is None else self.measured

    def describe_image(self, row: int) -> str:
        """Name image ``row``: its file and, where the dataset numbers its images, its id."""
        name = self.file_names[row]
        return f"{name} (image id {self.image_ids[row]})" if self.format == "coco" else name

    def describe_box(self, row: int) -> str:
        """Name box ``row``: where it stands, so that a person finds it."""
        number = int(self.box_numbers[row])
        if self.format == "coco":
            image_id, own_id = self.image_ids[self.image_index[row]], self.annotation_ids[row]
            own = f"id {own_id}, " if own_id >= 0 else ""
            return f"annotations[{number}] ({own}image id {image_id})"
        file = self.path.name if self.box_files is None else self.box_files[int(self.image_index[row])]
        return f"{file}, object {number}" if self.format == "voc" else f"{file}:{number}"

    def select_images(self, rows: Rows) -> Self:
        """Keep only some images, in their order, with their boxes; all classes stay."""
        kept = np.arange(self.num_images)[rows]
        new_row = np.full(self.num_images, -1, dtype=np.int64)
        new_row[kept] = np.arange(len(kept))
        narrowed = self.select_boxes(new_row[self.image_index] >= 0)
        return replace(
            narrowed,
            image_ids=self.image_ids[kept],
            sizes=self.sizes[kept],
            measured=None if self.measured is None else self.measured[kept],
            file_names=[self.file_names[row] for row in kept.tolist()],
            box_files=None if self.box_files is None else [self.box_files[row] for row in kept.tolist()],
            image_index=new_row[narrowed.image_index],
        )

    def with_measured_sizes(self, rows: npt.NDArray[np.int64], measured: npt.NDArray[np.int64]) -> Self:
        """Fill in sizes that were read from image files.

        Args:
            rows: [R] the images.
            measured: [R, 2] their (height, width) as viewers show them.
        """
        sizes, flags = self.sizes.copy(), self.is_measured.copy()
        sizes[rows], flags[rows] = measured, True
        return replace(self, sizes=sizes, measured=flags)

    def select_boxes(self, rows: Rows) -> Self:
        """Keep only some boxes; all images and classes stay."""
        names = ("boxes", "image_index", "labels", "is_ignored", "areas", "annotation_ids", "box_numbers")
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **columns)

    def select_classes(self, names: Sequence[str]) -> Self:
        """Keep only the boxes of some classes, and these classes in the order of the dataset; all images stay.

        Args:
            names: classes of the dataset, at least one.
        """
        kept = [label for label, name in enumerate(self.categories.names) if name in set(names)]
        new_label = np.full(len(self.categories), -1, dtype=np.int64)
        new_label[kept] = np.arange(len(kept))
        narrowed = self.select_boxes(new_label[self.labels] >= 0)
        ids, all_names = self.categories.ids, self.categories.names
        categories = Categories(tuple(ids[i] for i in kept), tuple(all_names[i] for i in kept))
        return replace(narrowed, labels=new_label[narrowed.labels], categories=categories)

    def boxes_per_image(self) -> npt.NDArray[np.int64]:
        """[I] int64, boxes of each image, ignore regions included."""
        return np.bincount(self.image_index, minlength=self.num_images)


def coco_document(content: DatasetContent) -> dict[str, Any]:
    """Return a dataset as the content of a COCO annotation file, nothing cleaned or left out.

    Ignore regions become ``iscrowd``. Annotations without an id get free ones, from 1 on. Areas that the dataset does
    not give are width * height.
    """
    sizes, file_names = content.sizes.tolist(), content.file_names
    images = []
    for image_id, (height, width), name in zip(content.image_ids.tolist(), sizes, file_names, strict=True):
        known = {} if UNKNOWN_SIZE in (height, width) else {"width": width, "height": height}
        images.append({"id": image_id, "file_name": name, **known})
    ids = content.annotation_ids.copy()
    missing = ids < 0
    ids[missing] = np.arange(missing.sum()) + 1 + ids.max(initial=0)
    with np.errstate(invalid="ignore", over="ignore"):
        areas = np.where(np.isnan(content.areas), content.boxes[:, 2] * content.boxes[:, 3], content.areas)
    columns = (ids, content.image_ids[content.image_index], np.array(content.categories.ids)[content.labels])
    rows = zip(*map(np.ndarray.tolist, (*columns, content.boxes, areas, content.is_ignored)), strict=True)
    annotations = [
        {"id": own, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": int(ignored)}
        for own, image, category, box, area, ignored in rows
    ]
    named = zip(content.categories.ids, content.categories.names, strict=True)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": own, "name": name} for own, name in named],
    }
