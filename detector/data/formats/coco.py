"""A COCO annotation file, parsed and checked; the content as it is in the file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.formats.gc_pause import garbage_collection_paused
from detector.data.formats.image_files import leaves_folder
from detector.data.formats.json_columns import Section, describe
from detector.errors import UserError
from detector.structures import Categories


def read_coco_json(path: Path, images_dir: Path | None = None) -> DatasetContent:
    """Read and check a COCO annotation file.

    Ids may have gaps and be 0; ``area``, ``iscrowd`` and annotation ids are not needed; width and height may be
    missing; categories without boxes and images without boxes are fine.

    Args:
        path: the JSON file.
        images_dir: folder of the images; None where it does not matter.

    Returns:
        Its content.

    Raises:
        UserError: the file cannot be read, is no JSON, or its content is not what COCO's format says. The message
            names the file, the entry with its ids, the key, what was found and what was expected.
    """
    with garbage_collection_paused():
        document = _parse(path)
        images, categories = Section.of(path, document, "images"), Section.of(path, document, "categories")
        annotations = Section.of(path, document, "annotations")
        for section in (images, categories):
            if not section.entries:
                raise UserError(f"{path}: key '{section.name}' is an empty list, expected at least one entry")

        image_ids = images.integers("id")
        images.check_unique("id", image_ids)
        width, height = (
            images.integers(key, minimum=1, absent=UNKNOWN_SIZE, expected="a positive integer")
            for key in ("width", "height")
        )
        sizes = np.stack([height, width], axis=1)
        sizes[(sizes == UNKNOWN_SIZE).any(axis=1)] = UNKNOWN_SIZE
        classes = _read_categories(categories)
        boxes = annotations.boxes("bbox")
        return DatasetContent(
            format="coco",
            path=path,
            images_dir=path.parent if images_dir is None else images_dir,
            image_ids=image_ids,
            sizes=sizes,
            file_names=_read_file_names(images),
            boxes=boxes,
            image_index=_rows_of(annotations, "image_id", image_ids, "the id of an image of this file"),
            labels=_rows_of(annotations, "category_id", np.array(classes.ids), "the id of a category of this file"),
            is_ignored=annotations.flags("iscrowd"),
            areas=_read_areas(annotations),
            annotation_ids=_read_annotation_ids(annotations),
            box_numbers=np.arange(len(boxes)),
            box_files=None,
            categories=classes,
        )


def _parse(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot read the annotation file: {reason}") from error
    if not data.strip():
        raise UserError(f"{path}: the annotation file is empty, expected a JSON object in COCO format")
    try:
        document = json.loads(data, object_hook=_without_masks)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}:{error.colno}: the annotation file is no valid JSON: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:  # bytes that are no text, numbers of thousands of digits, nesting
        raise UserError(f"{path}: the annotation file is no valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise UserError(
            f"{path}: the top level is {describe(document)}, expected an object with the keys "
            "'images', 'annotations' and 'categories'"
        )
    return document


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    """Let go of the polygons while parsing: they are most of COCO's file and would fill memory."""
    entry.pop("segmentation", None)
    return entry


def _read_categories(section: Section) -> Categories:
    ids, names = section.integers("id"), section.strings("name")
    section.check_unique("id", ids)
    section.check_unique("name", names)
    for index, name in enumerate(names):
        if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
            # Neither a terminal nor TensorBoard can show it, and FreeType crashes over it.
            raise section.error(index, "name", ascii(name), "text; this has half of a UTF-16 surrogate pair")
    order = np.argsort(ids)
    return Categories(tuple(ids[order].tolist()), tuple(names[i] for i in order.tolist()))


def _read_areas(section: Section) -> npt.NDArray[np.float64]:
    """Return areas as far as they are numbers: training does not need them, so none is wrong here."""
    values = [entry.get("area") for entry in section.entries]
    return np.array([value if type(value) is float else _area(value) for value in values], dtype=np.float64)


def _area(value: object) -> float:
    return float(value) if type(value) is int and abs(value) < 2**63 else math.nan


def _read_annotation_ids(section: Section) -> npt.NDArray[np.int64]:
    """Return ids as far as they are integers from 0 on, else -1: training does not need them either."""
    values = [entry.get("id") for entry in section.entries]
    is_fine = [type(value) is int and 0 <= value < 2**63 for value in values]
    return np.array([value if fine else -1 for value, fine in zip(values, is_fine, strict=True)], dtype=np.int64)


def _read_file_names(section: Section) -> list[str]:
    names = section.strings("file_name")
    for index, name in enumerate(names):
        if leaves_folder(name):
            raise section.error(index, "file_name", describe(name), "a path inside the image folder")
    return names


def _rows_of(section: Section, key: str, ids: npt.NDArray[np.int64], expected: str) -> npt.NDArray[np.int64]:
    """Return the row in ``ids`` of each value of a column."""
    values = section.integers(key)
    order = np.argsort(ids)
    places = np.searchsorted(ids, values, sorter=order).clip(max=len(ids) - 1)
    rows: npt.NDArray[np.int64] = order[places]
    unknown = np.flatnonzero(ids[rows] != values)
    if len(unknown):
        index = int(unknown[0])
        raise section.error(index, key, f"{values[index]} ({len(unknown)} such annotations)", expected)
    return rows
