"""Read a dataset in whatever format it is written in."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from detector.config import FormatName, SplitConfig
from detector.data.formats.coco_layout import read_coco
from detector.data.formats.content import DatasetContent
from detector.data.formats.csv_table import read_csv
from detector.data.formats.detect import detect_format
from detector.data.formats.gc_pause import garbage_collection_paused
from detector.data.formats.image_files import leaves_folder
from detector.data.formats.voc import read_voc
from detector.data.formats.yolo import read_yolo
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a split lies; see :class:`detector.config.SplitConfig`.

    Attributes:
        path: file or folder.
        images: folder of the images; None = where the format has it.
        format: how it is written, or "auto".
        split: part of it; None = all, or the only one, as for the file of a split (COCO, CSV).
    """

    path: Path
    images: Path | None = None
    format: FormatName = "auto"
    split: str | None = None


def build_source(config: SplitConfig) -> DatasetSource:
    """Return where the split of a configuration lies.

    Raises:
        UserError: ``annotations`` is a folder, which ``path`` is for.
    """
    images = None if config.images is None else Path(config.images)
    if config.annotations is not None:
        if Path(config.annotations).is_dir():
            raise UserError(
                f"{config.annotations}: is a folder, expected a COCO annotation file; path in place of annotations "
                "takes the folder of a dataset"
            )
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
    if source.split is not None and (not source.split or leaves_folder(source.split)):
        raise UserError(f"{source.path}: split {source.split!r} is no name of a split, such as train")
    if not source.path.exists():
        raise UserError(f"{source.path}: no such file or folder; expected a dataset in COCO, VOC, YOLO or CSV format")
    form = detect_format(source.path, source.split) if source.format == "auto" else source.format
    if form == "voc" and source.path.is_file():
        raise UserError(f"{source.path}: is a file, expected the folder of a dataset in VOC format")
    if form in ("coco", "csv") and source.split is not None and source.path.is_file():
        raise UserError(
            f"{source.path}: is a file of one split, in which split {source.split!r} cannot be chosen; leave split "
            "out, or give the folder of the dataset"
        )
    with garbage_collection_paused():
        match form:
            case "coco":
                return read_coco(source.path, source.split, source.images)
            case "voc":
                return read_voc(source.path, source.split, source.images)
            case "yolo":
                return read_yolo(source.path, source.split, source.images)
            case "csv":
                return read_csv(source.path, source.split, source.images)
            case _:
                assert_never(form)
