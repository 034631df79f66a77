"""Read a dataset in whatever format it is written in."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from detector.config import FormatName, SplitConfig
from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import DatasetContent
from detector.data.formats.detect import detect_format
from detector.data.formats.voc import read_voc
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a split lies; see :class:`detector.config.SplitConfig`.

    Attributes:
        path: file or folder.
        images: folder of the images; None = where the format has it.
        format: how it is written, or "auto".
        split: part of it; None = all, or the only one.
    """

    path: Path
    images: Path | None = None
    format: FormatName = "auto"
    split: str | None = None


def build_source(config: SplitConfig) -> DatasetSource:
    """Return where the split of a configuration lies."""
    images = None if config.images is None else Path(config.images)
    if config.annotations is not None:
        return DatasetSource(Path(config.annotations), images, "coco")
    assert config.path is not None
    return DatasetSource(Path(config.path), images, config.format, config.split)


def read_dataset(source: DatasetSource) -> DatasetContent:
    """Read a split of a dataset as it is written.

    COCO and YOLO have lists of classes. For VOC and CSV the classes are the names that occur in the split, in
    alphabetical order, with ids from 1 on; see :func:`detector.data.selection.number_by` for two splits with one list.

    Args:
        source: where it lies.

    Raises:
        UserError: it does not exist, its format cannot be told, or its content is wrong.
    """
    if not source.path.exists():
        raise UserError(f"{source.path}: no such file or folder; expected a dataset in COCO, VOC, YOLO or CSV format")
    form = detect_format(source.path, source.split) if source.format == "auto" else source.format
    match form:
        case "coco":
            return read_coco_json(source.path, source.images)
        case "voc":
            return read_voc(source.path, source.split, source.images)
        case "yolo" | "csv":
            raise UserError(f"{source.path}: {form} is not supported yet")
        case _:
            assert_never(form)
