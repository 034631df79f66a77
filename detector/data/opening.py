"""From ``data`` of a configuration to the images to learn from and those to be scored on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detector.config import DataConfig
from detector.data.dataset import DetectionDataset, open_dataset
from detector.data.formats.content import DatasetContent
from detector.data.formats.reading import build_source, read_dataset
from detector.data.selection import (
    Rows,
    hold_out,
    limit_empty_images,
    number_by,
    select_classes,
    take_fraction,
)
from detector.errors import UserError
from detector.structures import Categories


@dataclass(frozen=True, slots=True)
class OpenSplit:
    """One split, read and narrowed down as the configuration says.

    Attributes:
        content: the annotations as they are written.
        dataset: its images with boxes that were cleaned for training.
        coco_file: the file that ``content`` is all of, if it is a COCO file; None for other formats and for a part.
    """

    content: DatasetContent
    dataset: DetectionDataset
    coco_file: Path | None


def open_train_and_val(data: DataConfig, seed: int) -> tuple[OpenSplit, OpenSplit]:
    """Open the images to learn from and those to be scored on.

    Args:
        data: where they lie and which of them to use.
        seed: of the run; decides which part of the training images is used.

    Raises:
        UserError: a dataset is missing, unreadable or inconsistent, or nothing is left of it.
    """
    content = read_train(data)
    train = narrow_train(data, content, seed)
    val = narrow_val(data, content if data.val is None else read_val(data), train.categories)
    return _open(train), _open(val, is_file=data.val is not None and data.classes is None)


def open_split(data: DataConfig, seed: int, name: Literal["train", "val"]) -> OpenSplit:
    """Open one split; with "val" the training images are read for their classes only.

    Raises:
        UserError: as :func:`open_train_and_val`.
    """
    train = narrow_train(data, read_train(data), seed)
    return _open(train) if name == "train" else open_val(data, train.categories)


def open_val(data: DataConfig, classes: Categories) -> OpenSplit:
    """Open the images to be scored on, without those to learn from.

    Args:
        data: where they lie.
        classes: of the network.

    Raises:
        UserError: as :func:`open_train_and_val`.
    """
    content = read_train(data) if data.val is None else read_val(data)
    val = narrow_val(data, content, classes)
    return _open(val, is_file=data.val is not None and data.classes is None)


def read_train(data: DataConfig) -> DatasetContent:
    """Read ``data.train`` as it is written, those images included that ``data.holdout`` takes out of it."""
    return read_dataset(build_source(data.train))


def read_val(data: DataConfig) -> DatasetContent:
    """Read ``data.val`` as it is written; there must be one."""
    assert data.val is not None
    return read_dataset(build_source(data.val))


def narrow_train(data: DataConfig, content: DatasetContent, seed: int) -> DatasetContent:
    """Return the part of ``data.train`` that is learnt from.

    Args:
        data: which images and classes to use.
        content: from :func:`read_train`.
        seed: of the run.

    Raises:
        UserError: a class is unknown, or no image is left.
    """
    if data.holdout is not None:
        content = content.select_images(_hold_out(data, content)[0])
    if data.classes is not None:
        content = select_classes(content, data.classes)
    content = take_fraction(content, data.fraction, seed)
    if data.empty_images != "keep":
        content = limit_empty_images(content, 0.0 if data.empty_images == "drop" else data.empty_images, seed)
    if not content.num_images:
        raise UserError(
            f"data.empty_images: {data.empty_images} leaves no image of {content.path}, as none of them has a box"
        )
    return content


def narrow_val(data: DataConfig, content: DatasetContent, classes: Categories) -> DatasetContent:
    """Return the part of a dataset that is scored on, its labels numbered by the classes of the network.

    Args:
        data: which images and classes to use.
        content: from :func:`read_val`, or with ``data.holdout`` from :func:`read_train`.
        classes: of the network. COCO and YOLO datasets keep their own: whether they are the same is for
            :func:`detector.engine.evaluator_building.check_categories` to see.

    Raises:
        UserError: a class that occurs in the dataset is not among ``classes``.
    """
    if data.holdout is not None:
        content = content.select_images(_hold_out(data, content)[1])
    if data.classes is not None:
        content = content.select_classes(data.classes)
    return number_by(content, classes) if content.format in ("voc", "csv") else content


def _hold_out(data: DataConfig, content: DatasetContent) -> tuple[Rows, Rows]:
    rule = data.holdout
    assert rule is not None
    return hold_out(content, fraction=rule.fraction, seed=rule.seed, group=rule.group)


def _open(content: DatasetContent, *, is_file: bool = False) -> OpenSplit:
    dataset, content = open_dataset(content)
    return OpenSplit(content, dataset, content.path if is_file and content.format == "coco" else None)
