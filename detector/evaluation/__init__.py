"""COCO metrics: detections and ground truth in, the twelve numbers out.

pycocotools, or hotcoco to the same bits, does the matching and the averaging; see :mod:`detector.evaluation.coco`.
"""

from detector.evaluation.coco import ClassScore, CocoScores, score
from detector.evaluation.detections_file import read_detections, write_detections
from detector.evaluation.ground_truth import load_ground_truth
from detector.evaluation.results import CocoResults, to_coco_results
from detector.evaluation.table import format_scores

__all__ = [
    "ClassScore",
    "CocoResults",
    "CocoScores",
    "format_scores",
    "load_ground_truth",
    "read_detections",
    "score",
    "to_coco_results",
    "write_detections",
]
