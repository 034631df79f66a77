"""Average precision as COCO defines it, computed by pycocotools or to its last bit, and by nothing of ours.

The ground truth is the annotation file as it is: crowds, degenerate boxes and images without objects included, and
images without detections count. Reference: Lin et al. 2014, "Microsoft COCO", and
https://cocodataset.org/#detection-eval.

This file needs no torch, so that a results file can be scored without it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from detector.errors import UserError
from detector.evaluation.results import CocoResults
from detector.evaluation.scorers import ResolvedScorer, resolve_scorer, summarize

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


def score(
    ground_truth: COCO,
    results: CocoResults,
    *,
    scorer: ResolvedScorer | None = None,
    annotations: Path | None = None,
) -> CocoScores:
    """Score detections on a ground truth, exactly as pycocotools' ``COCOeval`` for boxes does.

    Args:
        ground_truth: from :func:`detector.evaluation.ground_truth.load_ground_truth`. pycocotools marks its annotations
            while it works, without effect on later calls.
        results: the detections. Their order decides between equal scores. With none (where ``COCO.loadRes`` raises)
            the numbers are those of detections that match nothing: 0 where there is ground truth, -1 where there is
            none.
        scorer: what does the work; None: hotcoco where it is installed. It changes no number.
        annotations: the file ``ground_truth`` was read from, for messages.

    Raises:
        UserError: a detection of an image or a category that the ground truth does not have.
        ValueError: a box or score that is not finite (pycocotools would count a NaN box as a match of anything).
    """
    _check_results(ground_truth, results, str(annotations or "the annotation file"))
    summary = summarize(ground_truth, results, scorer or resolve_scorer("auto"))
    metrics = {name: float(value) for name, value in zip(METRICS, summary.stats, strict=True)}
    notes = []
    if 0 in ground_truth.anns:
        notes.append(
            "an annotation has the id 0, which pycocotools takes for 'no match': a detection of that object counts as "
            "wrong; number annotations from 1"
        )
    return CocoScores(metrics, _per_class(ground_truth, summary.precision), tuple(notes))


def _per_class(ground_truth: COCO, precision: npt.NDArray[np.float64]) -> tuple[ClassScore, ...]:
    objects = Counter(a["category_id"] for a in ground_truth.dataset["annotations"] if not a["iscrowd"])
    return tuple(
        ClassScore(
            category_id=int(category_id),
            name=str(ground_truth.cats[category_id].get("name", category_id)),
            AP=_mean_of_scored(precision[:, :, column]),
            AP50=_mean_of_scored(precision[0, :, column]),
            num_gt=objects[category_id],
        )
        for column, category_id in enumerate(sorted(ground_truth.cats))
    )


def _mean_of_scored(precision: npt.NDArray[np.float64]) -> float:
    scored = precision[precision > -1]
    return float(scored.mean()) if scored.size else -1.0


def _check_results(ground_truth: COCO, results: CocoResults, annotations: str) -> None:
    unknown = ~np.isin(results.image_ids, list(ground_truth.imgs))
    if unknown.any():
        image_id = results.image_ids[unknown.argmax()]
        raise UserError(f"image id {image_id} has detections, but {annotations} has no such image")
    unknown = ~np.isin(results.category_ids, list(ground_truth.cats))
    if unknown.any():
        row = unknown.argmax()
        raise UserError(
            f"category id {results.category_ids[row]} (detected in image {results.image_ids[row]}) is not among the "
            f"categories of {annotations}: {_first_ids(ground_truth.cats)}"
        )
    unusable = ~(np.isfinite(results.boxes).all(axis=1) & np.isfinite(results.scores))
    if unusable.any():
        row = unusable.argmax()
        found = f"{results.boxes[row].tolist()}, {results.scores[row]}"
        raise ValueError(f"image {results.image_ids[row]}: detection with a box or score that is not finite: {found}")


def _first_ids(ids: Iterable[int], count: int = 10) -> str:
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:count])) + (", ..." if len(ordered) > count else "")
