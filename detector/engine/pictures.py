"""Pictures of predictions beside ground truth."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from detector.data.dataset import DetectionDataset
from detector.drawing.boxes import draw_detections, side_by_side
from detector.structures import Detections

MIN_SIDE = 512
"""Images are drawn at a whole multiple of their size that comes near this."""


def draw_pictures(
    dataset: DetectionDataset, indices: Iterable[int], detections: dict[int, Detections], score_thresh: float
) -> list[npt.NDArray[np.uint8]]:
    """Return a picture per image: predictions from ``score_thresh`` on at the left, ground truth at the right.

    Small images are enlarged, so that the labels do not cover them.
    """
    pictures = []
    names = dataset.categories.names
    for idx in indices:
        sample = dataset[idx]
        found = detections[sample.image_id]
        keep = found.scores >= score_thresh
        zoom = max(1, MIN_SIDE // max(sample.image.shape[:2]))
        left = draw_detections(
            sample.image, found.boxes[keep], found.labels[keep], found.scores[keep], names, zoom=zoom
        )
        right = draw_detections(sample.image, sample.boxes, sample.labels, None, names, ignore=sample.ignore, zoom=zoom)
        pictures.append(side_by_side(left, right, ("predictions", "ground truth")))
    return pictures
