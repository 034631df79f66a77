"""Datasets for tests, in the form that all readers give and as COCO documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.data.formats.content import DatasetContent
from detector.structures import Categories

Box = tuple[int, int]
"""Row of the image and label."""


def make_content(
    num_images: int, boxes: Sequence[Box] = (), /, *, names: Sequence[str] = ("cat", "dog", "eel"), **changes: Any
) -> DatasetContent:
    """Return a dataset of files ``img_<row>.png``, with image ids from 100 on and category ids 10, 20, ...

    Args:
        num_images: I.
        boxes: row of the image and label of each box; box ``i`` is (i, i + 1, i + 2, i + 3).
        names: classes.
        changes: attributes in place of those.
    """
    numbers = np.arange(len(boxes))
    columns: dict[str, Any] = {
        "format": "coco",
        "path": Path("a.json"),
        "images_dir": Path("images"),
        "image_ids": np.arange(100, 100 + num_images),
        "sizes": np.tile(np.array([[30, 40]]), (num_images, 1)),
        "file_names": [f"img_{row}.png" for row in range(num_images)],
        "boxes": np.stack([numbers, numbers + 1, numbers + 2, numbers + 3], axis=1).astype(np.float64),
        "image_index": np.array([image for image, _ in boxes], dtype=np.int64),
        "labels": np.array([label for _, label in boxes], dtype=np.int64),
        "is_ignored": np.zeros(len(boxes), dtype=np.bool_),
        "areas": np.full(len(boxes), np.nan),
        "annotation_ids": numbers + 1,
        "box_numbers": numbers,
        "box_files": None,
        "categories": Categories(tuple(range(10, 10 * len(names) + 1, 10)), tuple(names)),
    }
    return DatasetContent(**{**columns, **changes})


def random_coco(seed: int, num_images: int = 12, *, with_gaps: bool = True) -> dict[str, Any]:
    """Return a COCO document of random boxes in images of 60 x 80 pixels.

    There are crowds, areas of masks, images without boxes and, ``with_gaps``, annotations that lack id, area or
    iscrowd.
    """
    rng = np.random.default_rng(seed)
    image_ids = (rng.permutation(50)[:num_images] + 3).tolist()
    category_ids = [2, 5, 11]
    annotations: list[dict[str, Any]] = []
    for image_id in image_ids[1:]:
        for _ in range(rng.integers(0, 5)):
            x, y, width, height = (round(float(value), 2) for value in rng.uniform((0, 0, 3, 3), (40, 30, 40, 30)))
            entry = {
                "id": 7 + 3 * len(annotations),
                "image_id": image_id,
                "category_id": int(rng.choice(category_ids)),
                "bbox": [x, y, width, height],
                "area": round(width * height * float(rng.uniform(0.3, 1)), 3),
                "iscrowd": int(rng.random() < 0.2),
            }
            if with_gaps:
                for key in ("id", "area", "iscrowd"):
                    if rng.random() < 0.3:
                        del entry[key]
            annotations.append(entry)
    return {
        "images": [{"id": i, "file_name": f"{i:02}.png", "height": 60, "width": 80} for i in image_ids],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in category_ids],
    }


def write_images(folder: Path, document: dict[str, Any]) -> Path:
    """Write the images of a COCO document, all grey, and return their folder."""
    folder.mkdir(parents=True)
    for image in document["images"]:
        cv2.imwrite(str(folder / image["file_name"]), np.full((image["height"], image["width"], 3), 90, np.uint8))
    return folder
