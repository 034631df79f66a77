"""Average precision as COCO defines it, computed by pycocotools and by nothing else.

The ground truth is the annotation file as it is: crowds, degenerate boxes and images without objects included, and
images without detections count. Reference: Lin et al. 2014, "Microsoft COCO", and
https://cocodataset.org/#detection-eval.

This file needs no torch, so that a results file can be scored without it.
"""

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import UserError
from detector.evaluation.json_files import as_integer, finite_numbers, is_finite_number, read_json

if TYPE_CHECKING:
    from detector.data.opening import OpenSplit
    from detector.structures import Categories, Detections

METRICS: Final = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers in pycocotools' order."""

MAX_DETECTIONS: Final = 100
"""COCO looks at this many detections per image and class, best first, however many there are (AR1 and AR10 at 1 and
10). A larger ``eval.max_detections`` therefore reaches the results file, but only this far the numbers."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The result of one class; -1 where the ground truth has no object of it.

    Attributes:
        category_id: id in the annotation file.
        name: class name.
        AP: mean over the IoU thresholds .50:.05:.95 and recalls, in [0, 1].
        AP50: the same at IoU .50.
        num_gt: objects in the annotation file, without crowds.
    """

    category_id: int
    name: str
    AP: float
    AP50: float
    num_gt: int


@dataclass(frozen=True, slots=True)
class CocoScores:
    """What pycocotools says about a set of detections.

    Attributes:
        metrics: the twelve numbers by name (``METRICS``), in [0, 1]; -1 where there is no ground truth to score on.
        per_class: one row per category of the annotation file, in the order of their ids.
        notes: what a reader of the numbers has to know about the annotation file; usually empty.
    """

    metrics: dict[str, float]
    per_class: tuple[ClassScore, ...]
    notes: tuple[str, ...] = ()


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
    return _to_coco(dataset)


def to_coco_results(
    image_ids: Sequence[int], detections: "Sequence[Detections]", categories: "Categories"
) -> list[dict[str, Any]]:
    """Turn detections into entries of COCO's results format.

    Args:
        image_ids: ids in the annotation file, one per element of ``detections``.
        detections: boxes xyxy in original pixels; images without detections give no entry.
        categories: what the labels stand for.

    Returns:
        ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`` in the order given; the floats are
        the float32 values exactly, widths and heights their float64 difference.
    """
    results: list[dict[str, Any]] = []
    for image_id, found in zip(image_ids, detections, strict=True):
        boxes = found.boxes.detach().cpu().double()
        boxes[:, 2:] -= boxes[:, :2]  # .double() has made a copy
        rows = zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        results += [
            {"image_id": int(image_id), "category_id": categories.ids[label], "bbox": box, "score": value}
            for box, value, label in rows
        ]
    return results


def score(ground_truth: COCO, results: Sequence[Mapping[str, Any]], *, annotations: Path | None = None) -> CocoScores:
    """Score detections on a ground truth, exactly as pycocotools' ``COCOeval`` for boxes does.

    Args:
        ground_truth: from :func:`load_ground_truth`. pycocotools marks its annotations while it works, without effect
            on later calls.
        results: entries of COCO's results format, left as they are. Their order decides between equal scores. With
            none (where ``COCO.loadRes`` raises) the numbers are those of detections that match nothing: 0 where
            there is ground truth, -1 where there is none.
        annotations: the file ``ground_truth`` was read from, for messages.

    Raises:
        UserError: a detection of an image or a category that the ground truth does not have.
        ValueError: a box or score that is not finite (pycocotools would count a NaN box as a match of anything).
    """
    detections = _detections_as_coco(ground_truth, results, str(annotations or "the annotation file"))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(ground_truth, detections, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, evaluator.stats, strict=True)}
    notes = []
    if 0 in ground_truth.anns:
        notes.append(
            "an annotation has the id 0, which pycocotools takes for 'no match': a detection of that object counts as "
            "wrong; number annotations from 1"
        )
    return CocoScores(metrics, _per_class(ground_truth, evaluator), tuple(notes))


def _per_class(ground_truth: COCO, evaluator: COCOeval) -> tuple[ClassScore, ...]:
    objects = Counter(a["category_id"] for a in ground_truth.dataset["annotations"] if not a["iscrowd"])
    precision = evaluator.eval["precision"][..., 0, -1]  # [IoU, recall, class]: all areas, most detections
    return tuple(
        ClassScore(
            category_id=int(category_id),
            name=str(ground_truth.cats[category_id].get("name", category_id)),
            AP=_mean_of_scored(precision[:, :, column]),
            AP50=_mean_of_scored(precision[0, :, column]),
            num_gt=objects[category_id],
        )
        for column, category_id in enumerate(evaluator.params.catIds)
    )


def _mean_of_scored(precision: npt.NDArray[np.float64]) -> float:
    scored = precision[precision > -1]
    return float(scored.mean()) if scored.size else -1.0


def _detections_as_coco(ground_truth: COCO, results: Iterable[Mapping[str, Any]], annotations: str) -> COCO:
    """Do what ``COCO.loadRes`` does for boxes, without its polygons and without writing into ``results``."""
    entries = []
    for index, result in enumerate(results):
        image_id, category_id, box, value = (result[key] for key in ("image_id", "category_id", "bbox", "score"))
        if image_id not in ground_truth.imgs:
            raise UserError(f"image id {image_id} has detections, but {annotations} has no such image")
        if category_id not in ground_truth.cats:
            raise UserError(
                f"category id {category_id} (detected in image {image_id}) is not among the categories of "
                f"{annotations}: {_first_ids(ground_truth.cats)}"
            )
        if not all(map(math.isfinite, (*box, value))):
            raise ValueError(f"image {image_id}: detection with a box or score that is not finite: {box}, {value}")
        entry = {"image_id": image_id, "category_id": category_id, "bbox": box, "score": value}
        entries.append(entry | {"id": index + 1, "area": box[2] * box[3]})
    shared = {key: ground_truth.dataset[key] for key in ("images", "categories")}
    return _to_coco(shared | {"annotations": entries})


def _to_coco(dataset: dict[str, Any]) -> COCO:
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


def _first_ids(ids: Iterable[int], count: int = 10) -> str:
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:count])) + (", ..." if len(ordered) > count else "")
