"""Anchors that fit boxes: a search for sizes, scales and aspect ratios that gives the same ones on every run.

Letters: L levels, A anchors per cell, S = L * A shapes, B boxes.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from detector.inspect.anchor_grid import AnchorGrid, Floats, nearest_distances, overlap_at
from detector.inspect.anchor_shapes import AnchorShapes
from detector.inspect.training_boxes import TrainingBoxes

MARGIN: Final = 0.2
"""How far above the threshold an IoU still counts. With 0, a box at the threshold has what it needs, though a single
anchor is all it gets; with all of the IoU counted, boxes that have their anchors outvote those that have none."""

MAX_FITTED: Final = 3000
"""Boxes that the search looks at; it takes seconds, and shares are good to a point."""

_STEPS: Final = (0.7, 0.35, 0.18, 0.09, 0.045)
"""Steps of the search, in logarithms: factors from 2 down to 1.05."""

_LEAST_GAIN: Final = 1e-4
"""A move must gain so much of the score, and what gains less stays as it is."""


@dataclass(frozen=True, slots=True)
class FitTarget:
    """The boxes to fit anchors to.

    Attributes:
        sides: [B, 2] (width, height) in pixels at the scale of training.
        distances: [B, L, 2] from the centre of each box to the nearest centre of a cell, on every level: anchors that
            are small against their stride can miss a box of their own shape.
        weights: [B] how much each box counts; they sum to 1.
        iou_thresh: the IoU to reach.
    """

    sides: Floats
    distances: Floats
    weights: Floats
    iou_thresh: float

    def score(self, shapes: AnchorShapes) -> float:
        """Return the weighted mean of the best IoU, of which what exceeds ``iou_thresh + MARGIN`` counts nothing."""
        distances = np.repeat(self.distances, shapes.num_per_cell, axis=1)
        best = overlap_at(self.sides[:, None], shapes.sides(), distances).max(axis=1)
        return float(np.minimum(best, self.iou_thresh + MARGIN) @ self.weights)


def make_fit_target(training: TrainingBoxes, grid: AnchorGrid, iou_thresh: float) -> FitTarget:
    """Return a target of at most MAX_FITTED boxes, evenly spaced with the classes one after the other.

    A box counts half as one of all boxes, half as one of its class: mAP is a mean over classes, and a fit to all boxes
    alone could give up a rare one.

    Args:
        training: the boxes, at least one.
        grid: any anchors on the levels that are to get new ones.
        iou_thresh: the IoU to reach.
    """
    by_class = np.argsort(training.labels, kind="stable")
    rows = by_class[np.unique(np.linspace(0, len(by_class) - 1, MAX_FITTED).astype(np.int64))]
    boxes, labels = training.boxes[rows], training.labels[rows]
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return FitTarget(
        sides=boxes[:, 2:].astype(np.float64) - boxes[:, :2],
        distances=nearest_distances(grid, boxes, grid.cells(training.padded_sizes)[training.views[rows]]),
        weights=0.5 / len(rows) + 0.5 / (len(counts) * counts[class_of]),
        iou_thresh=iou_thresh,
    )


def fit_shapes(target: FitTarget, start: AnchorShapes) -> AnchorShapes:
    """Search for shapes with a higher score, as many per cell as there are.

    A pattern search over logarithms: along each direction both ways as long as anything gains, then again with a step
    of half the length. It finds a good place near the start, not the best one there is.

    Args:
        target: boxes to fit.
        start: where to begin.
    """
    point, best = _to_point(start), target.score(start)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for direction in _directions(start):
                for move in (step * direction, -step * direction):
                    while (found := _score_at(target, point + move, start)) >= best + _LEAST_GAIN:
                        point, best, improved = point + move, found, True
    return _to_shapes(_with_idle_put_back(target, point, best, start), start).in_order()


def _with_idle_put_back(target: FitTarget, point: Floats, best: float, start: AnchorShapes) -> Floats:
    """Return the point with every number as it was at the start that the score does not depend on."""
    origin = _to_point(start)
    for place in range(len(point)):
        restored = point.copy()
        restored[place] = origin[place]
        if _score_at(target, restored, start) > best - _LEAST_GAIN:
            point = restored
    return point


def _score_at(target: FitTarget, point: Floats, like: AnchorShapes) -> float:
    """Return the score of a point of the search; of sizes that fall from a level to the next, -1."""
    shapes = _to_shapes(point, like)
    rises = all(finer <= coarser for finer, coarser in pairwise(shapes.sizes))
    return target.score(shapes) if rises else -1.0


def _to_point(shapes: AnchorShapes) -> Floats:
    """Return the logarithms of sizes, scales and aspect ratios, one after the other."""
    return np.log(np.array([*shapes.sizes, *shapes.scales, *shapes.aspect_ratios], dtype=np.float64))


def _to_shapes(point: Floats, like: AnchorShapes) -> AnchorShapes:
    sizes, scales, ratios = np.split(np.exp(point), _borders(like))
    return AnchorShapes(tuple(sizes.tolist()), tuple(scales.tolist()), tuple(ratios.tolist()))


def _directions(like: AnchorShapes) -> list[Floats]:
    """Return the directions of the search: sizes, scales and ratios together, then each number alone.

    The first scale has none of its own: it does the same as all sizes together with the other scales.
    """
    first_scale, first_ratio = _borders(like)
    num_values = first_ratio + len(like.aspect_ratios)
    sizes, scales, ratios = np.split(np.arange(num_values), [first_scale, first_ratio])
    together = [
        (sizes, np.ones(len(sizes))),
        (sizes, np.linspace(-1, 1, len(sizes))),
        (scales, np.linspace(0, 1, len(scales))),
        (ratios, np.ones(len(ratios))),
        (ratios, np.linspace(-1, 1, len(ratios))),
    ]
    directions = []
    for places, values in together:
        if len(places) > 1:
            direction = np.zeros(num_values)
            direction[places] = values
            directions.append(direction)
    return directions + list(np.delete(np.eye(num_values), first_scale, axis=0))


def _borders(like: AnchorShapes) -> tuple[int, int]:
    """Return where scales and where aspect ratios begin in a point."""
    return len(like.sizes), len(like.sizes) + len(like.scales)
