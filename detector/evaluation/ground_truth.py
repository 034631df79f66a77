"""What detections are scored on: the annotation file as it is, in pycocotools' form.

This file needs no torch, so that a results file can be scored without it.
"""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycocotools.coco import COCO

from detector.errors import UserError
from detector.evaluation.json_files import as_integer, finite_numbers, is_finite_number, read_json

if TYPE_CHECKING:
    from detector.data.opening import OpenSplit


def load_ground_truth(path: Path) -> COCO:
    """Read an annotation file as pycocotools' ``COCO``, silently.

    Nothing is cleaned or filtered. Only what pycocotools cannot do without is filled in: ``area`` (width * height),
    ``iscrowd`` (0) and ``id`` (numbers that are free, from 1 on; also in place of names, which pycocotools cannot use).
    Only masks, which boxes do not need, are let go, because they are most of a file.

    Raises:
        UserError: the file is missing, no COCO annotation file, or contradicts itself (an id twice, an annotation of
            an unknown image or category, a box that is not four finite numbers); names the file and the annotation.
    """
    return _checked_ground_truth(read_json(path, object_hook=_without_mask), path)


def ground_truth_of(split: "OpenSplit") -> COCO:
    """Return what a split is scored on: its COCO file as it is, or the annotations of another format as they are.

    Objects marked as difficult are regions such as crowds: a detection there is neither right nor wrong.

    Raises:
        UserError: as :func:`load_ground_truth`.
    """
    if split.coco_file is not None:
        return load_ground_truth(split.coco_file)
    from detector.data.formats.content import coco_document  # imports torch, which scoring a file does not need

    return _checked_ground_truth(coco_document(split.content), split.content.path)


def _checked_ground_truth(dataset: Any, path: Path) -> COCO:
    if not isinstance(dataset, dict):
        raise UserError(f"{path}: expected a COCO annotation file, an object with images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(dataset.get(key), list) or not all(isinstance(entry, dict) for entry in dataset[key]):
            raise UserError(f"{path}: not a COCO annotation file to score on: it has no list of {key}")
    image_ids = _unique_ids(dataset["images"], "images", path)
    category_ids = _unique_ids(dataset["categories"], "categories", path)
    if not image_ids or not category_ids:
        raise UserError(
            f"{path}: nothing to score on: the list of {'images' if not image_ids else 'categories'} is empty"
        )
    _complete_annotations(dataset["annotations"], image_ids, category_ids, path)
    return to_coco(dataset)


def to_coco(dataset: dict[str, Any]) -> COCO:
    """Return pycocotools' object over a COCO file's content, silently."""
    coco = COCO()
    coco.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _without_mask(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _unique_ids(entries: Iterable[dict[str, Any]], plural: str, path: Path) -> set[int]:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        value = entry["id"] = as_integer(found := entry.get("id"))
        if value is None:
            raise UserError(f"{path}: {plural}[{index}]: id: expected an integer, found {found!r:.80}")
        if value in seen:
            raise UserError(f"{path}: {plural}: the id {value} occurs twice")
        seen.add(value)
    return seen


def _complete_annotations(
    annotations: list[dict[str, Any]], image_ids: set[int], category_ids: set[int], path: Path
) -> None:
    with_id = [entry for entry in annotations if as_integer(entry.get("id")) is not None]
    next_id = max(_unique_ids(with_id, "annotations", path), default=0) + 1
    for index, entry in enumerate(annotations):
        where = f"{path}: annotations[{index}] (id {entry.get('id')}, image {entry.get('image_id')})"
        for key, known in (("image_id", image_ids), ("category_id", category_ids)):
            value = entry.get(key)
            if not isinstance(value, int | float) or value not in known:
                plural = "images" if key == "image_id" else "categories"
                raise UserError(f"{where}: {key}: {value!r:.80} is not among the file's {plural}")
        box = entry.get("bbox")
        if not finite_numbers(box, 4):
            raise UserError(f"{where}: bbox: expected [x, y, width, height] in finite numbers, found {box!r:.80}")
        if as_integer(entry.get("id")) is None:
            entry["id"], next_id = next_id, next_id + 1
        if entry.get("area") is None:
            entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        if entry.get("iscrowd") is None:
            entry["iscrowd"] = 0
        if not is_finite_number(entry["area"]):
            raise UserError(f"{where}: area: expected a finite number, found {entry['area']!r:.80}")
        if entry["iscrowd"] not in (0, 1):
            raise UserError(f"{where}: iscrowd: expected 0 or 1, found {entry['iscrowd']!r:.80}")
