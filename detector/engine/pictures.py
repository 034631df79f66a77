"""Pictures of predictions beside ground truth."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from detector.data.dataset import CocoDataset
from detector.drawing.boxes import draw_detections, side_by_side
from detector.structures import Detections


def draw_pictures(
    dataset: CocoDataset, indices: Iterable[int], detections: dict[int, Detections], score_thresh: float
) -> list[npt.NDArray[np.uint8]]:
    """Return a picture per image: predictions above ``score_thresh`` on the left, ground truth on the right."""
    pictures = []
    names = dataset.categories.names
    for idx in indices:
        sample = dataset[idx]
        found = detections[sample.image_id]
        keep = found.scores > score_thresh
        left = draw_detections(
            sample.image, found.boxes[keep].numpy(), found.labels[keep].numpy(), found.scores[keep].numpy(), names
        )
        right = draw_detections(sample.image, sample.boxes, sample.labels, None, names)
        pictures.append(side_by_side(left, right, ("predictions", "ground truth")))
    return pictures
