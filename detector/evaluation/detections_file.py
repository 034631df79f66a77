"""Detections on disk, in COCO's results format.

A JSON list of ``{"image_id": int, "category_id": int, "bbox": [x, y, width, height], "score": float}`` with the
annotation file's own ids and boxes in pixels of the original image (https://cocodataset.org/#format-results).
"""

import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from detector.errors import UserError
from detector.evaluation.json_files import as_integer, finite_numbers, is_finite_number, read_json, write_atomically
from detector.evaluation.results import KEYS, CocoResults


def read_detections(path: Path, ground_truth: COCO, annotations: Path) -> CocoResults:
    """Read a COCO results file that is to be scored on ``ground_truth``.

    Args:
        path: the results file. An empty list is fine; other keys than the four (masks, say) are dropped.
        ground_truth: from :func:`detector.evaluation.ground_truth.load_ground_truth`.
        annotations: the file ``ground_truth`` was read from, for messages.

    Returns:
        The detections in the file's order.

    Raises:
        UserError: no JSON list, or an entry that lacks a key, has a value of the wrong type, a number that is not
            finite, or an image or category that the annotation file does not have; names the entry by its index.
    """
    entries = read_json(path, strict=True)
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of detections, found {_kind(entries)}")
    detections = []
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        detection = _checked_entry(entry, where)
        _check_known(detection["image_id"], ground_truth.imgs, "image_id", "images", where, annotations)
        _check_known(detection["category_id"], ground_truth.cats, "category_id", "categories", where, annotations)
        detections.append(detection)
    return CocoResults.from_entries(detections)


def write_detections(path: Path, results: CocoResults) -> None:
    """Write detections as a COCO results file, one detection a line, atomically.

    Args:
        path: the file to write; its folder exists.
        results: the detections.

    Raises:
        UserError: the file cannot be written.
        ValueError: a number is not finite.
    """
    write_atomically(path, _lines(results))


def _lines(results: CocoResults) -> Iterator[str]:
    yield "["
    for index, entry in enumerate(results.entries()):
        line = json.dumps(entry, allow_nan=False)
        yield f",\n{line}" if index else f"\n{line}"
    yield "\n]\n"


def _checked_entry(entry: object, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object with the keys {', '.join(KEYS)}, found {_kind(entry)}")
    missing = [key for key in KEYS if key not in entry]
    if missing:
        raise UserError(f"{where}: lacks {', '.join(missing)}; its keys are {', '.join(entry) or 'none'}")
    if not finite_numbers(entry["bbox"], 4):
        raise UserError(f"{where}: bbox: expected [x, y, width, height] in finite numbers, found {entry['bbox']!r:.80}")
    if not is_finite_number(entry["score"]):
        raise UserError(f"{where}: score: expected a finite number, found {entry['score']!r:.80}")
    return {
        "image_id": _checked_id(entry, "image_id", where),
        "category_id": _checked_id(entry, "category_id", where),
        "bbox": [float(value) for value in entry["bbox"]],
        "score": float(entry["score"]),
    }


def _checked_id(entry: Mapping[str, object], key: str, where: str) -> int:
    value = as_integer(entry[key])
    if value is None or not -(2**63) <= value < 2**63:
        raise UserError(f"{where}: {key}: expected an integer, found {entry[key]!r:.80}")
    return value


def _check_known(value: int, known: Container[int], key: str, plural: str, where: str, annotations: Path) -> None:
    if value not in known:
        raise UserError(
            f"{where}: {key} {value} is not among the {plural} of {annotations}; "
            "detections are scored with the annotation file that they were made for"
        )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
