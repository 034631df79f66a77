"""Boxes at the scale of training, made by hand."""

from collections.abc import Sequence

import numpy as np

from detector.inspect.anchor_coverage import AnchorStudy
from detector.inspect.anchor_shapes import AnchorShapes
from detector.inspect.training_boxes import TrainingBoxes

SQUARES = AnchorShapes(sizes=(16, 32, 64, 128, 256), scales=(1.0,), aspect_ratios=(1.0,))


def study_of(
    boxes: Sequence[Sequence[float]], labels: Sequence[int] | None = None, *, low_quality: bool = True, side: int = 512
) -> AnchorStudy:
    """A study of one square image with these boxes (xyxy)."""
    num_boxes = len(boxes)
    sizes = np.array([[side, side]])
    training = TrainingBoxes(
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        rows=np.arange(num_boxes),
        labels=np.array([0] * num_boxes if labels is None else labels, dtype=np.int64),
        views=np.zeros(num_boxes, dtype=np.int64),
        images=np.array([0]),
        sizes=sizes,
        padded_sizes=sizes,
    )
    return AnchorStudy(training, offset=0.0, fg_iou_thresh=0.5, allow_low_quality_matches=low_quality)


def square(x: float, y: float, width: float, height: float | None = None) -> list[float]:
    """A box around a point."""
    height = width if height is None else height
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
