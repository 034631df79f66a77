"""Which anchors the boxes of a whole dataset get: the assignment of training, from the few pairs that decide it.

:func:`detector.assign.assign_anchors` compares every box with every anchor of its image, as a GPU does well. Here only
the pairs are compared that can matter, which a CPU does for COCO's training set in a minute; the results are the same.

Letters: V views, L levels, S shapes of anchors, B boxes, P pairs, F anchors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.inspect.anchor_grid import AnchorGrid, Singles, paired_iou
from detector.inspect.anchor_pairs import Pairs, find_pairs
from detector.inspect.ragged import IntArray, lay_ranges
from detector.inspect.training_boxes import TrainingBoxes

_BOXES_AT_ONCE: Final = 4096

NO_LEVEL: Final = -1
"""Stands for the level of the best anchor where no anchor touches the box."""


@dataclass(frozen=True, slots=True)
class BoxMatches:
    """What the anchors are to each box.

    Attributes:
        best_iou: [B] float32, the highest IoU with an anchor.
        best_levels: [B] level of that anchor in [0, L), the finest on a tie; NO_LEVEL where no anchor touches the box.
        best_anchors: [B, 4] float32 xyxy, that anchor; 0 where there is none.
        num_positives: [B] anchors that are assigned to the box.
        num_by_threshold: [B] those of them that reach the threshold with it; the others come by the rule for
            low-quality matches.
    """

    best_iou: Singles
    best_levels: IntArray
    best_anchors: Singles
    num_positives: IntArray
    num_by_threshold: IntArray


def match_boxes(
    training: TrainingBoxes,
    grid: AnchorGrid,
    *,
    fg_iou_thresh: float,
    allow_low_quality_matches: bool,
    advance: Callable[[int], None] = lambda _num_boxes: None,
) -> BoxMatches:
    """Assign the anchors of every view to its boxes.

    Args:
        training: boxes at the scale of training.
        grid: the anchors.
        fg_iou_thresh: IoU in (0, 1] from which an anchor is foreground.
        allow_low_quality_matches: whether the best anchors of a box are foreground whatever their IoU.
        advance: called with the number of boxes done since its last call.
    """
    cells = grid.cells(training.padded_sizes)
    parts = []
    for part in _whole_views(training.views, len(training.images)):
        view_cells = cells[training.views[part]]
        pairs = find_pairs(grid, training.boxes[part], view_cells, fg_iou_thresh)
        views = training.views[part]
        matches = _match(training.boxes[part], views, view_cells, grid, pairs, fg_iou_thresh, allow_low_quality_matches)
        parts.append(matches)
        advance(part.stop - part.start)
    return BoxMatches(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(BoxMatches)))


def _match(
    boxes: Singles,
    views: IntArray,
    cells: IntArray,
    grid: AnchorGrid,
    pairs: Pairs,
    fg_iou_thresh: float,
    allow_low_quality_matches: bool,
) -> BoxMatches:
    """Assign anchors to the boxes of some whole views; ``pairs`` are theirs."""
    best_iou = np.zeros(len(boxes), dtype=np.float32)
    np.maximum.at(best_iou, pairs.boxes, pairs.iou)
    is_best = pairs.iou == best_iou[pairs.boxes]
    best_levels, best_anchors = _first_best(pairs.select(is_best), grid, len(boxes))

    threshold = np.float32(fg_iou_thresh)  # compared in float32, as torch does
    keys = _anchor_keys(pairs, views, cells, grid)
    above = np.flatnonzero(pairs.iou >= threshold)
    above = above[np.argsort(keys[above], kind="stable")]
    taken, owners = _first_highest(keys[above], pairs.boxes[above], pairs.iou[above])
    num_by_threshold = np.bincount(owners, minlength=len(boxes))
    num_positives = num_by_threshold
    if allow_low_quality_matches:
        # A box whose best anchors reach the threshold gains nothing by this rule: they are foreground already.
        is_forced = is_best & (pairs.iou > 0) & (pairs.iou < threshold)
        forced_keys, first = np.unique(keys[is_forced], return_index=True)
        is_new = ~_is_among(forced_keys, taken)
        forced = pairs.select(np.flatnonzero(is_forced)[first[is_new]])
        owners = _owners_of(forced, boxes, views, grid)
        num_positives = num_by_threshold + np.bincount(owners, minlength=len(boxes))
    return BoxMatches(best_iou, best_levels, best_anchors, num_positives, num_by_threshold)


def _first_best(best: Pairs, grid: AnchorGrid, num_boxes: int) -> tuple[IntArray, Singles]:
    """Return level [B] and anchor [B, 4] of the first of the best pairs of each box."""
    levels = np.full(num_boxes, NO_LEVEL, dtype=np.int64)
    anchors = np.zeros((num_boxes, 4), dtype=np.float32)
    boxes, first = np.unique(best.boxes, return_index=True)
    shapes = best.shapes[first]
    levels[boxes] = grid.levels[shapes]
    anchors[boxes] = grid.place(shapes, best.rows[first], best.columns[first])
    return levels, anchors


def _anchor_keys(pairs: Pairs, views: IntArray, cells: IntArray, grid: AnchorGrid) -> IntArray:
    """[P] numbers that are equal where the anchor is the same one of the same view."""
    level_cells = cells[pairs.boxes, grid.levels[pairs.shapes]]
    most_cells = int(cells.prod(axis=2).max(initial=1))
    cell = pairs.rows * level_cells[:, 1] + pairs.columns
    return (views[pairs.boxes] * most_cells + cell) * grid.num_shapes + pairs.shapes


def _first_highest(keys: IntArray, boxes: IntArray, iou: Singles) -> tuple[IntArray, IntArray]:
    """Return the different anchors among sorted keys [P], and the box that each overlaps most, the first on ties.

    Boxes must rise where keys are equal.
    """
    if not len(keys):
        return keys, boxes
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    counts = np.diff(starts, append=len(keys))
    is_highest = iou == np.repeat(np.maximum.reduceat(iou, starts), counts)
    places = np.flatnonzero(is_highest)
    _, first = np.unique(keys[places], return_index=True)
    return keys[starts], boxes[places[first]]


def _is_among(keys: IntArray, taken: IntArray) -> npt.NDArray[np.bool_]:
    """Tell which keys are among the ``taken`` ones, which are sorted."""
    places = np.searchsorted(taken, keys)
    return np.asarray(np.append(taken, -1)[places] == keys)


def _owners_of(forced: Pairs, boxes: Singles, views: IntArray, grid: AnchorGrid) -> IntArray:
    """[F] the box of its view that each anchor overlaps most, the first on ties."""
    own_views = views[forced.boxes]
    starts = np.searchsorted(views, own_views, side="left")
    counts = np.searchsorted(views, own_views, side="right") - starts
    which, others = lay_ranges(starts, counts)
    anchors = grid.place(forced.shapes, forced.rows, forced.columns)
    return _first_highest(which, others, paired_iou(boxes[others], anchors[which]))[1]


def _whole_views(views: IntArray, num_views: int) -> Iterator[slice]:
    """Cut boxes into runs of whole views, of at least _BOXES_AT_ONCE boxes as far as there are any."""
    ends = np.searchsorted(views, np.arange(num_views), side="right")
    start = 0
    for end in ends.tolist():
        if end - start >= _BOXES_AT_ONCE or end == len(views):
            yield slice(start, end)
            start = end
            if end == len(views):
                return
    if not num_views:
        yield slice(0, 0)
