"""Detections of a dataset in COCO's terms, as columns: half a million of them are arrays, not dictionaries.

Letters: D detections.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from detector.structures import Categories, Detections

KEYS = ("image_id", "category_id", "bbox", "score")
"""What COCO's results format has of a detection."""


@dataclass(frozen=True, slots=True, eq=False)
class CocoResults:
    """Detections with the annotation file's own ids, in pixels of the original images.

    Attributes:
        image_ids: [D] int64.
        category_ids: [D] int64.
        boxes: [D, 4] float64 as (x, y, width, height).
        scores: [D] float64.
    """

    image_ids: npt.NDArray[np.int64]
    category_ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """D, the number of detections."""
        return len(self.image_ids)

    @classmethod
    def from_entries(cls, entries: Sequence[Mapping[str, Any]]) -> Self:
        """Return the columns of entries of COCO's results format, each with the four ``KEYS``."""
        image_ids, category_ids, boxes, scores = ([entry[key] for entry in entries] for key in KEYS)
        return cls(
            np.array(image_ids, dtype=np.int64),
            np.array(category_ids, dtype=np.int64),
            np.array(boxes, dtype=np.float64).reshape(-1, 4),
            np.array(scores, dtype=np.float64),
        )

    @classmethod
    def concatenate(cls, parts: Iterable["CocoResults"]) -> Self:
        """Return the detections of all parts in their order."""
        columns = zip(*((part.image_ids, part.category_ids, part.boxes, part.scores) for part in parts), strict=True)
        arrays = [np.concatenate(column) for column in columns]
        return cls(*arrays) if arrays else cls.from_entries([])

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the detections as COCO's results format has them, in plain Python types."""
        columns = (self.image_ids.tolist(), self.category_ids.tolist(), self.boxes.tolist(), self.scores.tolist())
        for row in zip(*columns, strict=True):
            yield dict(zip(KEYS, row, strict=True))


def to_coco_results(
    image_ids: Sequence[int], detections: "Sequence[Detections]", categories: "Categories"
) -> CocoResults:
    """Turn detections of some images into COCO's terms.

    Args:
        image_ids: ids in the annotation file, one per element of ``detections``.
        detections: on the CPU, boxes xyxy in original pixels.
        categories: what the labels stand for.

    Returns:
        The detections in the order given; the floats are the float32 values exactly, widths and heights their float64
        difference.
    """
    if not detections:
        return CocoResults.from_entries([])
    boxes = np.concatenate([found.boxes.detach().double().numpy() for found in detections])
    labels = np.concatenate([found.labels.numpy() for found in detections])
    boxes[:, 2:] -= boxes[:, :2]  # concatenate has made a copy
    return CocoResults(
        np.repeat(np.array(image_ids, dtype=np.int64), [len(found.labels) for found in detections]),
        np.array(categories.ids, dtype=np.int64)[labels],
        boxes,
        np.concatenate([found.scores.double().numpy() for found in detections]),
    )
