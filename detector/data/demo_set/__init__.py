"""A generated detection set in COCO format: small, not trivial, the same bytes for the same seed."""

from detector.data.demo_set.make import DEFAULT_NUM_TRAIN, DEFAULT_NUM_VAL, draw_demo_scene, make_demo_set
from detector.data.demo_set.report import DemoReport, SplitReport, format_report

__all__ = [
    "DEFAULT_NUM_TRAIN",
    "DEFAULT_NUM_VAL",
    "DemoReport",
    "SplitReport",
    "draw_demo_scene",
    "format_report",
    "make_demo_set",
]
