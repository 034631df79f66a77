"""Annotations as flat tensors in shared memory, with boxes cleaned for training.

Letters: I images, B boxes that are left after cleaning, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detector.data.box_cleaning import clean_boxes
from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.image_sizes import read_image_sizes
from detector.data.packed import PackedStrings
from detector.errors import UserError
from detector.structures import Categories

_NUM_NAMED_IMAGES = 5


@dataclass(frozen=True, slots=True)
class BoxProblem:
    """Boxes that share a flaw.

    Attributes:
        num_boxes: how many.
        images: the first images, in the file's order, that have one; at most five: their ids in a COCO file, else
            their file names.
        num_images: how many images have one.
    """

    num_boxes: int = 0
    images: tuple[int | str, ...] = ()
    num_images: int = 0

    def __str__(self) -> str:
        names = ", ".join(map(str, self.images)) + (", ..." if self.num_images > len(self.images) else "")
        return f"(image id {names})" if self.images and isinstance(self.images[0], int) else f"({names})"


@dataclass(frozen=True, slots=True)
class BoxProblems:
    """What :func:`read_annotations` changed to make boxes fit for training.

    Attributes:
        degenerate: dropped: a side is below MIN_SIDE (so also zero or negative), infinite or no number.
        outside: dropped: less than MIN_SIDE of a side lies inside the image.
        clipped: cut at the border of the image, which they left by more than MIN_SIDE.
    """

    degenerate: BoxProblem = BoxProblem()
    outside: BoxProblem = BoxProblem()
    clipped: BoxProblem = BoxProblem()

    @property
    def num_changed(self) -> int:
        """Boxes that were dropped or clipped."""
        return self.degenerate.num_boxes + self.outside.num_boxes + self.clipped.num_boxes

    def __str__(self) -> str:
        """Return one line for the start-up report."""
        parts = [
            f"{problem.num_boxes} {text} {problem}"
            for problem, text in (
                (self.degenerate, "without area dropped"),
                (self.outside, "outside the image dropped"),
                (self.clipped, "clipped to the image"),
            )
            if problem.num_boxes
        ]
        return "boxes for training: " + ("; ".join(parts) or "all as they are in the file")


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """The annotations of a dataset. All tensors are in shared memory: loader processes copy none of them.

    Attributes:
        path: the file they are from.
        image_ids: [I] int64, ids of the images in the file, in its order.
        sizes: [I, 2] int64, (height, width) in pixels.
        is_measured: [I] bool, True where the size is not annotated but was read from the image file, as viewers show
            it; see :func:`~detector.data.decode.decode_image` for what follows.
        boxes: [B, 4] float32, xyxy in pixels of the image, inside it, each side at least about MIN_SIDE;
            sorted by image, in the file's order within one.
        labels: [B] int64 in [0, K).
        ignore: [B] bool, True for crowd regions.
        box_offsets: [I + 1] int64, image ``i`` has the boxes ``box_offsets[i] ... box_offsets[i + 1] - 1``.
        file_names: I paths relative to the image folder.
        categories: the K classes, in the order of their ids.
        problems: what cleaning changed.
    """

    path: Path
    image_ids: Tensor
    sizes: Tensor
    is_measured: Tensor
    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    box_offsets: Tensor
    file_names: PackedStrings
    categories: Categories
    problems: BoxProblems

    def __len__(self) -> int:
        """I, the number of images."""
        return len(self.image_ids)


def read_annotations(path: Path, images_dir: Path | None = None) -> AnnotationTable:
    """Read a COCO annotation file for training; see :func:`build_table`.

    Args:
        path: COCO JSON file, see :func:`~detector.data.formats.coco.read_coco_json`.
        images_dir: folder of the images; None if the file gives every size.

    Raises:
        UserError: the file cannot be read or is wrong, or as :func:`build_table`.
    """
    content = read_coco_json(path, images_dir)
    return build_table(content if images_dir is None else complete_sizes(content))


def build_table(content: DatasetContent) -> AnnotationTable:
    """Make the annotations of a dataset fit for training.

    Boxes become xyxy. The rule of cleaning: a box with a side below 0.01 px (so also zero or negative), or with a
    number that is not finite, is dropped; others are clipped to their image, and dropped if less than 0.01 px of a
    side is left. Crowd boxes and difficult objects become ignore regions. Nothing here concerns scoring, which takes
    the annotations as they are.

    Args:
        content: all sizes known, see :func:`complete_sizes`.

    Returns:
        The annotations in shared memory.

    Raises:
        UserError: sizes are missing, or there is no room in shared memory.
    """
    sizes = content.sizes
    unknown = np.flatnonzero((sizes == UNKNOWN_SIZE).any(axis=1))
    if len(unknown):
        first = int(unknown[0])
        raise UserError(
            f"{content.path}: images[{first}] (id {content.image_ids[first]}): 'width' or 'height' is missing "
            f"({len(unknown)} such images); expected positive integers, or the image folder to read them from"
        )
    boxes, keep, problems = _clean_boxes(content, sizes)
    kept = np.flatnonzero(keep)
    order = kept[np.argsort(content.image_index[kept], kind="stable")]
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(np.bincount(content.image_index[order], minlength=len(sizes)), out=offsets[1:])
    table = AnnotationTable(
        path=content.path,
        image_ids=torch.from_numpy(content.image_ids),
        sizes=torch.from_numpy(sizes),
        is_measured=torch.from_numpy(content.is_measured),
        boxes=torch.from_numpy(boxes[order].astype(np.float32)),
        labels=torch.from_numpy(content.labels[order]),
        ignore=torch.from_numpy(content.is_ignored[order]),
        box_offsets=torch.from_numpy(offsets),
        file_names=PackedStrings.pack(content.file_names),
        categories=content.categories,
        problems=problems,
    )
    _share(table)
    return table


def complete_sizes(content: DatasetContent) -> DatasetContent:
    """Read the sizes that a dataset does not give from the headers of its images.

    Raises:
        ImageError: an image whose size is needed cannot be read.
    """
    rows = np.flatnonzero((content.sizes == UNKNOWN_SIZE).any(axis=1))
    if not len(rows):
        return content
    paths = [content.images_dir / content.file_names[row] for row in rows.tolist()]
    return content.with_measured_sizes(rows, read_image_sizes(paths))


def _clean_boxes(
    content: DatasetContent, sizes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], BoxProblems]:
    """Return clipped xyxy boxes [boxes of the file, 4], which of them to keep, and what was changed."""
    cleaned = clean_boxes(content.boxes, sizes[content.image_index])

    def problem(flags: npt.NDArray[np.bool_]) -> BoxProblem:
        images = np.unique(content.image_index[flags])
        num_images, images = len(images), images[:_NUM_NAMED_IMAGES]
        names = content.image_ids[images].tolist()
        if content.format != "coco":
            names = [content.file_names[row] for row in images.tolist()]
        return BoxProblem(int(flags.sum()), tuple(names), num_images)

    problems = BoxProblems(problem(cleaned.is_degenerate), problem(cleaned.is_outside), problem(cleaned.is_clipped))
    return cleaned.corners, cleaned.is_kept, problems


def _share(table: AnnotationTable) -> None:
    """Move the table's tensors to shared memory, in place."""
    tensors = list(_tensors_of(table, table.file_names))
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        num_bytes = sum(tensor.nbytes for tensor in tensors)
        raise UserError(
            f"{table.path}: the annotations need {num_bytes / 1e6:.0f} MB of shared memory, which the system refuses "
            f"({str(error).splitlines()[0]}); in a container, start it with more, for example --shm-size=1g"
        ) from error


def _tensors_of(*objects: AnnotationTable | PackedStrings) -> Iterator[Tensor]:
    for part in objects:
        values: Sequence[object] = [getattr(part, field.name) for field in fields(part)]
        yield from (value for value in values if isinstance(value, Tensor))
