"""Find out what format a dataset is written in, by looking at its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from detector.data.formats.coco_layout import find_jsons
from detector.data.formats.content import FormatName
from detector.data.formats.csv_table import find_csv
from detector.data.formats.image_files import describe_folder
from detector.data.formats.voc_layout import find_annotations, folders_with_annotations
from detector.data.formats.yolo_layout import looks_like_yolo
from detector.errors import UserError

_BY_SUFFIX: Final[dict[str, FormatName]] = {".json": "coco", ".csv": "csv", ".yaml": "yolo", ".yml": "yolo"}


def detect_format(path: Path, split: str | None = None) -> FormatName:
    """Return the format of a dataset.

    CSV files count only where nothing else is found, as they accompany datasets of all kinds.

    Args:
        path: an existing file or folder.
        split: name of the split that is wanted, whose folder counts too.

    Raises:
        UserError: nothing, or more than one format, is found; says what was looked for and what is there.
    """
    if path.is_file():
        if path.suffix.lower() not in _BY_SUFFIX:
            raise UserError(
                f"{path}: the format cannot be told by the extension {path.suffix!r}; expected .json (COCO), .csv, "
                ".yaml (YOLO), or the folder of a dataset"
            )
        return _BY_SUFFIX[path.suffix.lower()]
    found = dict(_look(path, split)) or dict(_look(path, None))
    if not found and (find_csv(path, split) or find_csv(path)):
        return "csv"
    if len(found) == 1:
        return next(iter(found))
    if found:
        signs = " and ".join(f"{name} ({sign})" for name, sign in found.items())
        raise UserError(
            f"{path}: the format is ambiguous, as there are signs of {signs}; choose one with format, as in "
            "data.train.format=voc, or name the annotation file in place of the folder"
        )
    raise UserError(
        f"{path}: no dataset found: looked for Annotations/*.xml or *.xml (VOC), data.yaml, labels/ or classes.txt "
        f"(YOLO), *.json or annotations/*.json (COCO) and *.csv; the folder {describe_folder(path)}"
    )


def _look(path: Path, split: str | None) -> Iterator[tuple[FormatName, str]]:
    """Yield the formats that a folder has signs of, with the sign."""
    folder = find_annotations(path) or (None if split is None else find_annotations(path / split))
    names = folders_with_annotations(path) if folder is None and split is None else []
    if folder is not None or names:
        yield "voc", f"XML files in {folder or names[0]}"
    if (sign := looks_like_yolo(path)) is not None:
        yield "yolo", sign
    if jsons := find_jsons(path, split):
        yield "coco", str(jsons[0])
