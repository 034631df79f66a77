"""CSV: a line ``path,x1,y1,x2,y2,class`` for each box, ``path,,,,,`` for an image without boxes (keras-retinanet).

Coordinates are continuous pixels: width = x2 - x1. A first line with the names of the columns is skipped. White space
around a value does not count.
"""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from detector.data.formats.columns import ClassNames, FoundBox, FoundImage, assemble
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.formats.image_files import describe_folder, leaves_folder, normalize
from detector.data.formats.images_dir import find_images_dir
from detector.data.formats.text_files import quote, read_number, read_text
from detector.errors import UserError

_EXPECTED: Final = "path,x1,y1,x2,y2,class"
_CORNERS: Final = ["x1", "y1", "x2", "y2"]


def find_csv(path: Path, split: str | None = None) -> list[Path]:
    """Return the CSV files that may be meant by a path and a split.

    Args:
        path: a file, which is the answer, or a folder.
        split: ``<split>.csv`` or the only CSV file in the folder ``<split>``; None = the only one in the folder.
    """
    if path.is_file():
        return [path]
    if split is None:
        return sorted(path.glob("*.csv"))
    file = path / f"{split}.csv"
    return [file] if file.is_file() else sorted((path / split).glob("*.csv"))


def read_csv(path: Path, split: str | None = None, images_dir: Path | None = None) -> DatasetContent:
    """Read a dataset in CSV format.

    Args:
        path: the CSV file, or a folder with it.
        split: see :func:`find_csv`.
        images_dir: folder that paths are relative to; None = found by looking, see
            :func:`detector.data.formats.images_dir.find_images_dir`.

    Returns:
        Its content, images in the order they turn up; classes are those that occur, in alphabetical order.

    Raises:
        UserError: the file or the images are not found, or a line is something else; names file and line.
    """
    files = find_csv(path, split)
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        found = f"there are {names}; choose one with path or split" if files else f"the folder {describe_folder(path)}"
        looked = "*.csv" if split is None else f"{split}.csv and {split}/*.csv"
        raise UserError(f"{path}: looked for one CSV file, {looked}; {found}")
    file = files[0]
    rows: dict[str, int] = {}
    boxes: list[FoundBox] = []
    classes = ClassNames()
    for line, (written, *values) in _read_rows(file):
        name = _image_name(file, line, written, images_dir)
        row = rows.setdefault(name, len(rows))
        if any(values):
            boxes.append(FoundBox(row, _read_box(file, line, values), classes.label_of(values[4]), line))
    images = [FoundImage(name, (UNKNOWN_SIZE, UNKNOWN_SIZE), "") for name in rows]
    categories, boxes = classes.sort(file, boxes)
    content = assemble("csv", file, file.parent if images_dir is None else images_dir, images, boxes, categories)
    return (
        content if images_dir is not None else replace(content, images_dir=find_images_dir(content, file.stem, split))
    )


def _read_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and six values of each line that is not empty."""
    # Strict: else a quote that is never closed would take in the rest of the file.
    reader = csv.reader(io.StringIO(read_text(file), newline=""), skipinitialspace=True, strict=True)
    is_first = True
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            values = [value.strip() for value in row]
            if not any(values):
                if len(values) > 1:
                    raise UserError(f"{file}:{line}: only commas, expected {_EXPECTED}")
                continue
            if len(values) != 6:
                raise UserError(
                    f"{file}:{line}: {len(values)} values in {quote(','.join(values))}, expected six: {_EXPECTED}"
                )
            is_header = is_first and [value.lower() for value in values[1:5]] == _CORNERS
            is_first = False
            if not is_header:
                yield line, values
    except csv.Error as error:
        raise UserError(f"{file}:{start}: no valid CSV: {error}") from error


def _image_name(file: Path, line: int, written: str, images_dir: Path | None) -> str:
    """Return the path of an image, relative to the folder of the images."""
    if not written:
        raise UserError(f"{file}:{line}: no path of an image, expected {_EXPECTED}")
    name = written
    if os.path.isabs(written):  # noqa: PTH117 (pathlib takes ten times as long)
        folder = file.parent if images_dir is None else images_dir
        place, home = os.path.normpath(written), os.path.abspath(folder)  # noqa: PTH100
        name = os.path.relpath(place, home) if place.startswith(home + os.sep) else written
    if leaves_folder(name):
        raise UserError(f"{file}:{line}: {quote(written)} is no path inside the folder of the images")
    return normalize(name)


def _read_box(file: Path, line: int, values: list[str]) -> tuple[float, float, float, float]:
    """Return (x, y, width, height)."""
    corners = [read_number(value) for value in values[:4]]
    for name, text, value in zip(_CORNERS, values, corners, strict=False):
        if value is None:
            raise UserError(f"{file}:{line}: {name} is {quote(text)}, expected a finite number")
    if not values[4]:
        raise UserError(f"{file}:{line}: no class, expected {_EXPECTED}")
    x1, y1, x2, y2 = (value for value in corners if value is not None)
    return x1, y1, x2 - x1, y2 - y1
