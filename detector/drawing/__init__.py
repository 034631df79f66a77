"""Boxes and their class names on images."""

from detector.drawing.boxes import draw_detections, side_by_side
from detector.drawing.colors import class_color, text_color

__all__ = ["class_color", "draw_detections", "side_by_side", "text_color"]
