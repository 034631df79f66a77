"""COCO metrics: detections and ground truth in, the twelve numbers out.

pycocotools does the matching and the averaging; see :mod:`detector.evaluation.coco`.
"""

from detector.evaluation.coco import ClassScore, CocoScores, load_ground_truth, score, to_coco_results
from detector.evaluation.detections_file import read_detections, write_detections
from detector.evaluation.table import format_scores

__all__ = [
    "ClassScore",
    "CocoScores",
    "format_scores",
    "load_ground_truth",
    "read_detections",
    "score",
    "to_coco_results",
    "write_detections",
]
