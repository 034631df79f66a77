"""The two libraries that can do COCO's matching and averaging; they give the same numbers to the last bit.

pycocotools is the reference. hotcoco (MIT licence, https://github.com/derekallman/hotcoco) does the same in Rust and
takes a hundredth of the time. Neither is given anything but boxes.

Letters: D detections, T IoU thresholds, R recalls, K categories in the order of their ids.
"""

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import UserError
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults

ScorerName = Literal["auto", "hotcoco", "pycocotools"]
ResolvedScorer = Literal["hotcoco", "pycocotools"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """What both libraries say.

    Attributes:
        stats: [12] the numbers of ``COCOeval.summarize``.
        precision: [T, R, K] over all areas, with the most detections per image; -1 without ground truth.
    """

    stats: FloatArray
    precision: FloatArray


def resolve_scorer(name: ScorerName) -> ResolvedScorer:
    """Return the library, ``auto`` decided: hotcoco where it can be used.

    Raises:
        UserError: if hotcoco is asked for and cannot be used.
    """
    is_installed = name != "pycocotools" and _has_hotcoco()
    if name == "hotcoco" and not is_installed:
        raise UserError(
            "eval.scorer: hotcoco was asked for, but is not installed, too old or broken; install it (pip install "
            "'hotcoco>=1.3'), or use eval.scorer=auto, which takes pycocotools then: slower, with the same numbers"
        )
    if name == "auto":
        return "hotcoco" if is_installed else "pycocotools"
    return name


def _has_hotcoco() -> bool:
    """Return whether hotcoco is there and has what is used of it: found out when a run starts, not when it scores."""
    try:
        import hotcoco
    except ImportError:
        return False
    return hasattr(hotcoco.COCO, "from_arrays")


def summarize(ground_truth: COCO, results: CocoResults, scorer: ResolvedScorer) -> Summary:
    """Score detections of images and categories that the ground truth has.

    An annotation with the id 0 is left to pycocotools, which takes that id for "no match" in ``COCOeval`` and so counts
    a detection of the object as wrong; hotcoco counts it as right. No other difference is known: negative and huge ids,
    at which hotcoco stops or rounds, are replaced by their ranks.
    """
    if scorer == "hotcoco" and 0 not in ground_truth.anns:
        return _by_hotcoco(ground_truth, results)
    return _by_pycocotools(ground_truth, results)


def _by_pycocotools(ground_truth: COCO, results: CocoResults) -> Summary:
    # What COCO.loadRes does for boxes, without its polygons.
    entries = [
        entry | {"id": number, "area": entry["bbox"][2] * entry["bbox"][3]}
        for number, entry in enumerate(results.entries(), start=1)
    ]
    shared = {key: ground_truth.dataset[key] for key in ("images", "categories")}
    detections = to_coco(shared | {"annotations": entries})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(ground_truth, detections, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return Summary(evaluator.stats, evaluator.eval["precision"][..., 0, -1])


def _by_hotcoco(ground_truth: COCO, results: CocoResults) -> Summary:
    import hotcoco

    image_ranks, category_ranks = _ranks(ground_truth.imgs), _ranks(ground_truth.cats)
    annotations = ground_truth.dataset["annotations"]
    truth = hotcoco.COCO.from_arrays(
        [{"id": rank} for rank in image_ranks.values()],
        [{"id": rank, "name": str(rank)} for rank in category_ranks.values()],
        np.array([image_ranks[entry["image_id"]] for entry in annotations], dtype=np.int64),
        np.array([category_ranks[entry["category_id"]] for entry in annotations], dtype=np.int64),
        np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(-1, 4),
        area=np.array([entry["area"] for entry in annotations], dtype=np.float64),
        iscrowd=np.array([bool(entry["iscrowd"]) for entry in annotations], dtype=np.bool_),
    )
    table = np.empty((len(results), 7))
    table[:, 0] = np.searchsorted(np.array(list(image_ranks), dtype=np.int64), results.image_ids)
    table[:, 1:5] = results.boxes
    table[:, 5] = results.scores
    table[:, 6] = np.searchsorted(np.array(list(category_ranks), dtype=np.int64), results.category_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = hotcoco.COCOeval(truth, truth.load_res(table), "bbox")
        evaluator.run()
    result = evaluator.eval
    assert result is not None
    return Summary(np.asarray(evaluator.stats), result["precision"][..., 0, -1])


def _ranks(ids: Iterable[int]) -> dict[int, int]:
    """Return the place of each id in their order, rising: 0 for the lowest."""
    return {value: rank for rank, value in enumerate(sorted(ids))}
