"""Small datasets for the doctor's tests."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import DatasetContent
from detector.inspect.doctor import Finding, Split, check_splits
from detector.inspect.doctor.image_reading import ImageReader
from detector.structures import Categories, Size

Box = tuple[str, float, float, float, float]
"""Class, x, y, width, height."""

SCALE = {"short_side": 800, "max_side": 1333}


def document_of(
    images: Mapping[str, Sequence[Box]], *, size: Size = (60, 80), classes: Sequence[str] = ("cat", "dog")
) -> dict[str, Any]:
    """Return a COCO document: image ids from 1, annotation ids from 101, category ids from 1."""
    height, width = size
    annotations = [
        {"image_id": image_id, "category_id": 1 + classes.index(name), "bbox": [x, y, w, h], "area": w * h}
        for image_id, boxes in enumerate(images.values(), start=1)
        for name, x, y, w, h in boxes
    ]
    return {
        "images": [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, name in enumerate(images, start=1)
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=101)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
    }


def write_set(folder: Path, document: dict[str, Any], name: str = "train") -> tuple[Path, Path]:
    """Write ``NAME.json`` and the folder ``NAME`` with an image of its own for each entry; return both."""
    images = folder / name
    images.mkdir(parents=True, exist_ok=True)
    for entry in document["images"]:
        write_image(images / entry["file_name"], (entry["height"], entry["width"]), f"{name} {entry['id']}")
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path, images


def write_image(path: Path, size: Size, seed: str) -> None:
    """Write an image whose pixels follow from ``seed``."""
    pixels = np.random.default_rng(list(seed.encode())).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def read_split(annotations: Path, images: Path, name: str = "train", *, is_scored: bool = False) -> Split:
    """Read a set with the facts of its files."""
    split = Split(name, read_coco_json(annotations, images), is_scored=is_scored)
    return split.with_facts(ImageReader().read(split.content))


def make_content(
    images: Mapping[str, Sequence[Box]], *, size: Size = (60, 80), classes: Sequence[str] = ("cat", "dog")
) -> DatasetContent:
    """Return the content of a set without files."""
    boxes = [(row, *box) for row, found in enumerate(images.values()) for box in found]
    count = len(boxes)
    return DatasetContent(
        format="coco",
        path=Path("made.json"),
        images_dir=Path("made"),
        image_ids=np.arange(1, len(images) + 1),
        sizes=np.tile(np.array(size, dtype=np.int64), (len(images), 1)),
        file_names=list(images),
        boxes=np.array([box[2:] for box in boxes], dtype=np.float64).reshape(-1, 4),
        image_index=np.array([box[0] for box in boxes], dtype=np.int64),
        labels=np.array([classes.index(box[1]) for box in boxes], dtype=np.int64),
        is_ignored=np.zeros(count, dtype=np.bool_),
        areas=np.full(count, np.nan),
        annotation_ids=np.arange(101, 101 + count),
        box_numbers=np.arange(count),
        box_files=None,
        categories=Categories(tuple(range(1, len(classes) + 1)), tuple(classes)),
    )


def make_split(images: Mapping[str, Sequence[Box]], name: str = "train", **kwargs: Any) -> Split:
    """Return a split without files."""
    return Split(name, make_content(images, **kwargs), is_scored=name == "val")


def with_content(split: Split, **changes: Any) -> Split:
    """Return a split with some columns of its content replaced."""
    return replace(split, content=replace(split.content, **changes))


def checked(*splits: Split) -> dict[str, Finding]:
    """Return all findings by the name of their check; each may occur once."""
    findings = check_splits(splits, **SCALE)
    names = [finding.check for finding in findings]
    assert len(set(names)) == len(names), names
    return {finding.check: finding for finding in findings}


CLEAN: dict[str, Sequence[Box]] = {
    "a.png": [("cat", 5, 6, 30, 20), ("dog", 40, 10, 25, 30)],
    "b.png": [("dog", 10, 10, 20, 20)],
    "c.png": [("cat", 0, 0, 40, 30)],
}
"""Nothing is wrong with it."""
