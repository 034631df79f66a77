"""A photo with an EXIF orientation in datasets that do not give its size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from detector.data.formats.reading import DatasetSource
from tests.data.formats.files import write

STORED = (64, 96)
"""(height, width) in the file."""


def save_photo(path: Path, orientation: int, size: tuple[int, int] = STORED) -> Path:
    """Write a grey JPEG whose first stored quarter, at the top left, is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 60, np.uint8)
    pixels[: size[0] // 2, : size[1] // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


def shown(path: Path) -> np.ndarray:
    """Return the pixels as viewers show them, by Pillow."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def white_part(path: Path) -> tuple[int, int, int, int]:
    """Return where viewers show the white quarter, as (x1, y1, x2, y2)."""
    rows, columns = np.nonzero(shown(path)[..., 0] > 200)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def write_yolo(folder: Path, path: Path) -> DatasetSource:
    height, width = shown(path).shape[:2]
    x1, y1, x2, y2 = white_part(path)
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    write(folder / "labels" / f"{path.stem}.txt", f"0 {' '.join(map(str, numbers))}\n")
    write(folder / "data.yaml", "train: images\nnames: [white]\n")
    return DatasetSource(folder)


def write_csv(folder: Path, path: Path) -> DatasetSource:
    write(folder / "boxes.csv", f"images/{path.name},{','.join(map(str, white_part(path)))},white\n")
    return DatasetSource(folder / "boxes.csv", folder)


def write_coco(folder: Path, path: Path, **size: int) -> DatasetSource:
    x1, y1, x2, y2 = white_part(path)
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": path.name, **size}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}],
        "categories": [{"id": 1, "name": "white"}],
    }
    write(folder / "a.json", json.dumps(document))
    return DatasetSource(folder / "a.json", folder / "images")
