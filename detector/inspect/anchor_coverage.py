"""How well anchors cover the boxes of a dataset, before anything is trained.

Letters: B boxes of all views (see :mod:`detector.inspect.training_boxes`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.anchors import AnchorGenerator
from detector.config import Config
from detector.data.annotations import AnnotationTable
from detector.inspect.anchor_grid import AnchorGrid, make_grid
from detector.inspect.anchor_matching import BoxMatches, match_boxes
from detector.inspect.anchor_shapes import AnchorShapes
from detector.inspect.ragged import IntArray
from detector.inspect.training_boxes import TrainingBoxes, build_training_boxes

Flags = npt.NDArray[np.bool_]

_FEWEST_OF_CLASS: Final = 10
"""The share of a class with fewer boxes says little."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the anchors are to every box.

    Attributes:
        training: the boxes.
        matches: what each of them gets.
        fg_iou_thresh: IoU from which an anchor is foreground.
        num_anchors: of all views together.
    """

    training: TrainingBoxes
    matches: BoxMatches
    fg_iou_thresh: float
    num_anchors: int

    @property
    def is_reached(self) -> Flags:
        """[B] whether a box has an anchor whose IoU with it reaches the threshold."""
        return self.reaches(self.fg_iou_thresh)

    @property
    def is_rescued(self) -> Flags:
        """[B] whether a box gets anchors, but all of them only by the rule for low-quality matches."""
        return np.asarray((self.matches.num_positives > 0) & (self.matches.num_by_threshold == 0))

    @property
    def is_unmatched(self) -> Flags:
        """[B] whether a box gets no anchor."""
        return np.asarray(self.matches.num_positives == 0)

    def reaches(self, iou: float) -> Flags:
        """[B] whether a box has an anchor of at least this IoU; compared in float32, as in training."""
        return np.asarray(self.matches.best_iou >= np.float32(iou))

    def class_shares(self) -> dict[int, float]:
        """Return the share of reached boxes by label, of the classes with boxes."""
        num_boxes = np.bincount(self.training.labels)
        num_reached = np.bincount(self.training.labels[self.is_reached], minlength=len(num_boxes))
        return {int(label): float(num_reached[label] / num_boxes[label]) for label in np.flatnonzero(num_boxes)}

    def worst_class(self) -> int:
        """Return the label with the lowest share of reached boxes, if possible one with enough boxes to judge it."""
        shares, num_boxes = self.class_shares(), np.bincount(self.training.labels)
        return min(shares, key=lambda label: (num_boxes[label] < _FEWEST_OF_CLASS, shares[label]))


@dataclass(frozen=True, slots=True)
class BoxGroup:
    """Boxes that have something in common.

    Attributes:
        name: what.
        num_boxes: how many, at least 1.
        mean_iou: mean of their best IoU.
        reached: share of them with an anchor whose IoU reaches the threshold, in [0, 1].
        rescued: share with anchors only by the rule for low-quality matches.
        unmatched: share without an anchor.
        median_positives: median of the number of anchors of a box.
    """

    name: str
    num_boxes: int
    mean_iou: float
    reached: float
    rescued: float
    unmatched: float
    median_positives: float


@dataclass(frozen=True, slots=True)
class AnchorStudy:
    """The boxes of a dataset and the rules of matching, to measure anchors with.

    Attributes:
        training: the boxes.
        offset: centre of a cell's anchors in strides from its top left corner.
        fg_iou_thresh: IoU from which an anchor is foreground.
        allow_low_quality_matches: whether the best anchors of a box are foreground whatever their IoU.
    """

    training: TrainingBoxes
    offset: float
    fg_iou_thresh: float
    allow_low_quality_matches: bool

    def grid(self, shapes: AnchorShapes) -> AnchorGrid:
        """Return anchors of some shapes on the grids of the pyramid's levels."""
        return make_grid(AnchorGenerator(shapes.sizes, shapes.scales, shapes.aspect_ratios, offset=self.offset))

    def measure(self, shapes: AnchorShapes, advance: Callable[[int], None] = lambda _num_boxes: None) -> Coverage:
        """Assign anchors of some shapes to the boxes; ``advance`` is called with the number of boxes done since."""
        grid = self.grid(shapes)
        matches = match_boxes(
            self.training,
            grid,
            fg_iou_thresh=self.fg_iou_thresh,
            allow_low_quality_matches=self.allow_low_quality_matches,
            advance=advance,
        )
        num_cells = int(grid.cells(self.training.padded_sizes).prod(axis=2).sum())
        return Coverage(self.training, matches, self.fg_iou_thresh, num_cells * grid.num_per_cell)


def build_anchor_study(config: Config, table: AnnotationTable, max_boxes: int | None = None) -> AnchorStudy:
    """Return what it takes to measure anchors on a dataset as a configuration trains on it.

    Args:
        config: sizes, padding and thresholds.
        table: the annotations.
        max_boxes: about how many boxes to look at, those of evenly spaced images; None = all.

    Raises:
        UserError: an image fits in no bucket.
    """
    return AnchorStudy(
        training=build_training_boxes(config.data, table, max_boxes),
        offset=config.model.anchors.offset,
        fg_iou_thresh=config.assign.fg_iou_thresh,
        allow_low_quality_matches=config.assign.allow_low_quality_matches,
    )


def group_boxes(coverage: Coverage, groups: IntArray, names: Sequence[str]) -> list[BoxGroup]:
    """Describe the boxes of each group that has any.

    Args:
        coverage: of all boxes.
        groups: [B] in [0, number of groups).
        names: of the groups.
    """
    matches, found = coverage.matches, []
    is_reached, is_rescued, is_unmatched = coverage.is_reached, coverage.is_rescued, coverage.is_unmatched
    for group in np.unique(groups).tolist():
        rows = groups == group
        found.append(
            BoxGroup(
                name=names[group],
                num_boxes=int(rows.sum()),
                mean_iou=float(matches.best_iou[rows].mean(dtype=np.float64)),
                reached=float(is_reached[rows].mean()),
                rescued=float(is_rescued[rows].mean()),
                unmatched=float(is_unmatched[rows].mean()),
                median_positives=float(np.median(matches.num_positives[rows])),
            )
        )
    return found
