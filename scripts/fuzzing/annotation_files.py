"""Mutated annotation files of four formats. Rule: what is accepted is read as another reader of the format reads it."""

import csv
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.data.dataset import open_dataset
from detector.data.formats.content import DatasetContent
from detector.data.formats.reading import DatasetSource, read_dataset
from fuzzing.mutations import TEXT
from fuzzing.outcome import SilentError

NAMES = ("a.png", "b.png", "c.png")
SIZE = (40, 60)  # height, width
CLASSES = ("cat", "dog")

Row = tuple[str, str, bool, tuple[float | str, ...]]
"""File name, class, whether it is ignored, (x, y, width, height); odd numbers as text, for NaN is not equal to NaN."""


@dataclass(frozen=True)
class Case:
    """A dataset with one mutated file."""

    source: DatasetSource
    file: Path


def make_case(folder: Path, rng: random.Random) -> tuple[str, Case]:
    """Write a dataset and mutate one of its text files; return the mutation's name and the case."""
    shutil.rmtree(folder / "set", ignore_errors=True)
    home = folder / "set"
    form = rng.choice(("coco", "csv", "voc", "yolo"))
    source, files = {"coco": _coco, "csv": _csv, "voc": _voc, "yolo": _yolo}[form](home, rng)
    file = rng.choice(files)
    mutation = rng.choice(TEXT)
    file.write_bytes(mutation(file.read_bytes(), rng))
    return f"{mutation.__name__} {form}", Case(source, file)


def read_case(case: Case) -> None:
    """Read it twice, with our reader and with a naive one, and compare; then open it as training does."""
    content = read_dataset(case.source)
    expected = NAIVE[content.format](case.source)
    if expected is not None and (difference := _difference(Counter(rows_of(content)), Counter(expected))):
        raise SilentError(difference)
    dataset, _ = open_dataset(content)
    for idx in range(len(dataset)):
        dataset[idx]


def rows_of(content: DatasetContent) -> Iterator[Row]:
    """The boxes of a dataset."""
    for idx, box in enumerate(content.boxes.tolist()):
        name = content.file_names[int(content.image_index[idx])]
        category = content.categories.names[int(content.labels[idx])]
        yield Path(name).name, category, bool(content.is_ignored[idx]), _rounded(box)


def _rounded(box: Any) -> tuple[float | str, ...]:
    values = [float(value) for value in box]
    return tuple(round(value, 4) if abs(value) < 1e9 else f"{value:g}" for value in values)


def _difference(found: "Counter[Row]", expected: "Counter[Row]") -> str:
    missing, extra = list((expected - found).elements()), list((found - expected).elements())
    if not missing and not extra:
        return ""
    return f"boxes that another reader finds: {missing[:3]}; boxes that only ours finds: {extra[:3]}"


def _boxes(rng: random.Random) -> list[tuple[str, str, list[int]]]:
    boxes = []
    for name in NAMES:
        for _ in range(rng.randrange(1, 4)):
            x, y = rng.randrange(30), rng.randrange(20)
            boxes.append((name, rng.choice(CLASSES), [x, y, rng.randrange(5, 30), rng.randrange(5, 20)]))
    return boxes


def _write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in NAMES:
        cv2.imwrite(str(folder / name), np.full((*SIZE, 3), 90, np.uint8))


def _coco(home: Path, rng: random.Random) -> tuple[DatasetSource, list[Path]]:
    _write_images(home / "images")
    images = [{"id": idx + 5, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for idx, name in enumerate(NAMES)]
    annotations = [
        {"id": idx + 1, "image_id": NAMES.index(name) + 5, "category_id": CLASSES.index(category) + 3, "bbox": box,
         "area": box[2] * box[3], "iscrowd": rng.choice((0, 0, 1))}
        for idx, (name, category, box) in enumerate(_boxes(rng))
    ]  # fmt: skip
    categories = [{"id": idx + 3, "name": name} for idx, name in enumerate(CLASSES)]
    file = home / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}, indent=1))
    return DatasetSource(file, home / "images", "coco"), [file]


def _naive_coco(source: DatasetSource) -> list[Row] | None:
    document = json.loads(source.path.read_bytes())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    classes = {category["id"]: category["name"] for category in document["categories"]}
    return [
        (
            Path(names[one["image_id"]]).name,
            classes[one["category_id"]],
            bool(one.get("iscrowd", 0)),
            _rounded(one["bbox"]),
        )
        for one in document.get("annotations", [])
    ]


def _csv(home: Path, rng: random.Random) -> tuple[DatasetSource, list[Path]]:
    _write_images(home / "images")
    lines = [
        f"{name},{x},{y},{x + width},{y + height},{category}" for name, category, (x, y, width, height) in _boxes(rng)
    ]
    file = home / "a.csv"
    file.write_text("\n".join([*(["path,x1,y1,x2,y2,class"] if rng.random() < 0.5 else []), *lines]) + "\n")
    return DatasetSource(file, home / "images", "csv"), [file]


def _naive_csv(source: DatasetSource) -> list[Row] | None:
    rows = []
    with source.path.open(encoding="utf-8-sig", newline="") as file:
        for number, fields in enumerate(csv.reader(file)):
            fields = [field.strip() for field in fields]
            try:
                x1, y1, x2, y2 = map(float, fields[1:5])
            except ValueError:
                if number == 0 or not any(fields[1:]):  # the header, an image without boxes
                    continue
                raise
            rows.append((Path(fields[0]).name, fields[5], False, _rounded((x1, y1, x2 - x1, y2 - y1))))
    return rows


def _voc(home: Path, rng: random.Random) -> tuple[DatasetSource, list[Path]]:
    _write_images(home / "JPEGImages")
    (home / "Annotations").mkdir()
    boxes, files = _boxes(rng), []
    for name in NAMES:
        objects = [
            f"  <object>\n    <name>{category}</name>\n    <difficult>{rng.choice((0, 0, 1))}</difficult>\n"
            "    <bndbox>\n"
            f"      <xmin>{x + 1}</xmin>\n      <ymin>{y + 1}</ymin>\n      <xmax>{x + width}</xmax>\n"
            f"      <ymax>{y + height}</ymax>\n    </bndbox>\n  </object>\n"
            for own, category, (x, y, width, height) in boxes
            if own == name
        ]
        file = home / "Annotations" / f"{Path(name).stem}.xml"
        size = (
            f"  <size>\n    <width>{SIZE[1]}</width>\n    <height>{SIZE[0]}</height>\n    <depth>3</depth>\n  </size>\n"
        )
        file.write_text(f"<annotation>\n  <filename>{name}</filename>\n{size}{''.join(objects)}</annotation>\n")
        files.append(file)
    return DatasetSource(home, None, "voc"), files


def _naive_voc(source: DatasetSource) -> list[Row] | None:
    """By regular expressions: all that they can read of a mutated file is what they are made for."""
    rows: list[Row] = []
    for file in sorted((source.path / "Annotations").glob("*.xml")):
        data = file.read_bytes()
        if re.search(rb"[^\t\n -~]|<[!?]|&|\w+=", data):
            return None  # comments, entities, attributes: these are for a parser of XML
        text = data.decode()
        for part in re.findall(r"<object>(.*?)</object>", text, re.DOTALL):
            values = dict(re.findall(r"<(\w+)>([^<]*)</\1>", part))
            x1, y1, x2, y2 = (float(values[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
            # Boxes without extent stay so (the reader's own rule).
            box = _rounded((x1 - 1, y1 - 1, x2 - x1 + (x2 > x1), y2 - y1 + (y2 > y1)))
            is_ignored = values.get("difficult", "0").strip() == "1"
            rows.append((f"{file.stem}.png", values["name"].strip(), is_ignored, box))
    return rows


def _yolo(home: Path, rng: random.Random) -> tuple[DatasetSource, list[Path]]:
    _write_images(home / "images" / "train")
    labels = home / "labels" / "train"
    labels.mkdir(parents=True)
    boxes = _boxes(rng)
    for name in NAMES:
        lines = [
            f"{CLASSES.index(category)} {(x + w / 2) / SIZE[1]:.8f} {(y + h / 2) / SIZE[0]:.8f} {w / SIZE[1]:.8f} "
            f"{h / SIZE[0]:.8f}\n"
            for own, category, (x, y, w, h) in boxes
            if own == name
        ]
        (labels / f"{Path(name).stem}.txt").write_text("".join(lines))
    yaml_file = home / "data.yaml"
    yaml_file.write_text(f"path: .\ntrain: images/train\nnames:\n  0: {CLASSES[0]}\n  1: {CLASSES[1]}\n")
    return DatasetSource(home, None, "yolo", "train"), [*sorted(labels.iterdir()), yaml_file]


def _naive_yolo(source: DatasetSource) -> list[Row] | None:
    if not all(f"  {idx}: {name}\n" in (source.path / "data.yaml").read_text() for idx, name in enumerate(CLASSES)):
        return None  # other names of classes
    rows: list[Row] = []
    for file in sorted((source.path / "labels" / "train").glob("*.txt")):
        for line in file.read_text(encoding="utf-8-sig").splitlines():
            if not line.strip():
                continue
            label, *numbers = map(float, line.split())
            x, y = numbers[::2], numbers[1::2]
            if len(numbers) > 4:  # a polygon
                box = (min(x), min(y), max(x) - min(x), max(y) - min(y))
            else:
                box = (x[0] - x[1] / 2, y[0] - y[1] / 2, x[1], y[1])
            pixels = [part * side for part, side in zip(box, (SIZE[1], SIZE[0]) * 2, strict=True)]
            rows.append((f"{file.stem}.png", CLASSES[int(label)], False, _rounded(pixels)))
    return rows


NAIVE: dict[str, Callable[[DatasetSource], list[Row] | None]] = {
    "coco": _naive_coco,
    "csv": _naive_csv,
    "voc": _naive_voc,
    "yolo": _naive_yolo,
}
