"""The pairs of a box and an anchor that decide an assignment: few enough to be listed for a whole dataset.

Letters: V views, L levels, S shapes of anchors, B boxes, P pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.inspect.anchor_grid import AnchorGrid, Floats, Singles, nearest_distances, overlap_at, paired_iou
from detector.inspect.ragged import IntArray, lay_ranges

_SLACK_OF_IOU: Final = 1e-3
"""The list is drawn up in float64 and judged in float32. For sides from a fifth of a pixel on, the two agree better
than this; for smaller ones ..."""

_SLACK_OF_PLACE: Final = 2.0**-20
"""... distances get this part of the largest coordinate: several steps of float32."""

_MAX_PLACED: Final = 2**21
"""Pairs that are worked on at once: about 200 MB."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a box and an anchor.

    Attributes:
        boxes: [P] in [0, B), rising.
        shapes: [P] the anchor's shape, in [0, S).
        rows: [P] the anchor's row of cells.
        columns: [P] the anchor's column of cells.
        iou: [P] float32, their overlap.
    """

    boxes: IntArray
    shapes: IntArray
    rows: IntArray
    columns: IntArray
    iou: Singles

    def select(self, which: IntArray | npt.NDArray[np.bool_]) -> "Pairs":
        """Return some of the pairs, by number or by a flag for each."""
        return Pairs(*(getattr(self, field.name)[which] for field in fields(self)))


def find_pairs(grid: AnchorGrid, boxes: Singles, cells: IntArray, iou_thresh: float) -> Pairs:
    """List every pair whose IoU reaches the threshold, or, for a box that no anchor overlaps so much, its best ones.

    Args:
        grid: the anchors.
        boxes: [B, 4] xyxy, inside their images, of positive area.
        cells: [B, L, 2] (rows, columns) of every level in the view of each box.
        iou_thresh: IoU in [0, 1].

    Returns:
        The pairs, and some more that lie just below. A box that touches no anchor has none.
    """
    distances = nearest_distances(grid, boxes, cells)[:, grid.levels]
    box_sides = (boxes[:, 2:].astype(np.float64) - boxes[:, :2])[:, None]
    best = overlap_at(box_sides, grid.shape_sides, distances).max(axis=1, initial=0)
    needed = np.minimum(best, iou_thresh) * (1 - _SLACK_OF_IOU)
    owners, shapes = np.nonzero((needed > 0)[:, None] & (_best_case(box_sides, grid.shape_sides) >= needed[:, None]))
    first, count = _windows(grid, boxes[owners], cells[owners, grid.levels[shapes]], shapes, needed[owners])
    parts = []
    for part in _slices(count.prod(axis=1)):
        which, places = lay_ranges(np.zeros(len(count[part]), dtype=np.int64), count[part].prod(axis=1))
        which += part.start
        rows, columns = first[which, 1] + places // count[which, 0], first[which, 0] + places % count[which, 0]
        iou = paired_iou(boxes[owners[which]], grid.place(shapes[which], rows, columns))
        placed = Pairs(owners[which], shapes[which], rows, columns, iou)
        parts.append(placed.select(iou >= needed[placed.boxes]))
    return Pairs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Pairs)))


def _best_case(box_sides: Floats, anchor_sides: Floats) -> Floats:
    """[B, S] IoU of a box and an anchor of that shape at the same place."""
    return overlap_at(box_sides, anchor_sides, np.zeros((1, 1, 2)))


def _windows(
    grid: AnchorGrid, boxes: Singles, cells: IntArray, shapes: IntArray, needed: Floats
) -> tuple[IntArray, IntArray]:
    """Return the first (column, row) and the number of (columns, rows) of the cells that may hold such an anchor.

    ``IoU >= t`` is ``inside >= t / (1 + t) * (sum of both areas)``. As the overlap in height is at most the smaller
    height, the overlap in width has a least value, and with it the distance along x a largest one; so along y.

    Args:
        grid: the anchors.
        boxes: [P, 4] box of each pair.
        cells: [P, 2] (rows, columns) of the shape's level in the box's view.
        shapes: [P] shape of each pair.
        needed: [P] t, the IoU to reach.
    """
    corners = boxes.astype(np.float64)
    box_sides, centers = corners[:, 2:] - corners[:, :2], (corners[:, :2] + corners[:, 2:]) / 2
    anchor_sides, strides = grid.shape_sides[shapes], grid.strides[grid.levels[shapes]][:, None]
    inside = needed / (1 + needed) * (box_sides.prod(axis=1) + anchor_sides.prod(axis=1))
    least = inside[:, None] / np.minimum(box_sides, anchor_sides)[:, ::-1]
    slack = _SLACK_OF_PLACE * (corners.max(axis=1, keepdims=True) + anchor_sides)
    reach = (box_sides + anchor_sides) / 2 - least + slack
    first = np.ceil((centers - reach) / strides - grid.offset)
    last = np.floor((centers + reach) / strides - grid.offset)
    first, last = np.maximum(first, 0).astype(np.int64), np.minimum(last, cells[:, ::-1] - 1).astype(np.int64)
    return first, np.maximum(last - first + 1, 0)


def _slices(sizes: IntArray) -> Iterator[slice]:
    """Cut P items into runs whose sizes add up to at most about _MAX_PLACED; one run where there are no items."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    cuts = [0, *np.searchsorted(ends, np.arange(_MAX_PLACED, total, _MAX_PLACED)).tolist(), len(sizes)]
    for start, stop in pairwise(cuts):
        if stop > start or not len(sizes):
            yield slice(start, stop)
