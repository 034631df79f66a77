"""Find out what format a dataset is written in, by looking at its files."""

from pathlib import Path
from typing import Final

from detector.data.formats.content import FormatName
from detector.data.formats.image_files import describe_folder
from detector.data.formats.voc_layout import find_annotations
from detector.errors import UserError

_BY_SUFFIX: Final[dict[str, FormatName]] = {".json": "coco", ".csv": "csv", ".yaml": "yolo", ".yml": "yolo"}


def detect_format(path: Path, split: str | None = None) -> FormatName:
    """Return the format of a dataset.

    Args:
        path: an existing file or folder.
        split: name of the split that is wanted; its folder counts too.

    Raises:
        UserError: nothing, or more than one format, is found; says what was looked for and what is there.
    """
    if path.is_file():
        if path.suffix.lower() not in _BY_SUFFIX:
            raise UserError(f"{path}: the format of the dataset cannot be told by the extension {path.suffix!r}")
        return _BY_SUFFIX[path.suffix.lower()]
    if find_annotations(path) is not None or (split is not None and find_annotations(path / split) is not None):
        return "voc"
    raise UserError(f"{path}: no dataset found; the folder {describe_folder(path)}")
