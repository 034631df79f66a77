"""Anchors on their grids, one number a dimension, so that millions of pairs with boxes need no grid in memory.

Letters: V views, L levels, A anchors per cell, S = L * A shapes (level by level), B boxes, P pairs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from detector.anchors import AnchorGenerator
from detector.inspect.ragged import IntArray

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AnchorGrid:
    """The anchors of a generator, by shape and cell.

    Attributes:
        cell_anchors: [S, 4] float32 xyxy around the origin.
        levels: [S] level of each shape, in [0, L).
        strides: [L] pixels per cell.
        offset: centre of a cell's anchors in strides from its top left corner.
        num_per_cell: A.
    """

    cell_anchors: Singles
    levels: IntArray
    strides: IntArray
    offset: float
    num_per_cell: int

    @property
    def num_shapes(self) -> int:
        """S."""
        return len(self.cell_anchors)

    @property
    def shape_sides(self) -> Floats:
        """[S, 2] (width, height) in pixels."""
        return (self.cell_anchors[:, 2:] - self.cell_anchors[:, :2]).astype(np.float64)

    def cells(self, padded_sizes: IntArray) -> IntArray:
        """Return the (rows, columns) of every level, [V, L, 2], for padded (height, width), [V, 2]."""
        return -(-padded_sizes[:, None, :] // self.strides[:, None])

    def place(self, shapes: IntArray, rows: IntArray, columns: IntArray) -> Singles:
        """Return the anchors of P cells, [P, 4] xyxy, equal to the last bit to those of :class:`AnchorGenerator`."""
        strides = self.strides[self.levels[shapes]].astype(np.float32)
        offset = np.float32(self.offset)
        x = (columns.astype(np.float32) + offset) * strides
        y = (rows.astype(np.float32) + offset) * strides
        return np.stack((x, y, x, y), axis=1) + self.cell_anchors[shapes]


def make_grid(generator: AnchorGenerator) -> AnchorGrid:
    """Return a generator's anchors by shape and cell."""
    num_levels, num_per_cell = len(generator.strides), generator.num_per_cell
    return AnchorGrid(
        cell_anchors=torch.cat(generator.cell_anchors).numpy(),
        levels=np.repeat(np.arange(num_levels), num_per_cell),
        strides=np.array(generator.strides, dtype=np.int64),
        offset=generator.offset,
        num_per_cell=num_per_cell,
    )


def nearest_distances(grid: AnchorGrid, boxes: Singles, cells: IntArray) -> Floats:
    """Return how far the nearest anchor centres of every level lie from the centres of boxes.

    The overlap of a box and an anchor never grows with their distance along either axis, so of all anchors of one
    shape the one in the nearest column and the nearest row has the highest IoU. No other needs to be looked at.

    Args:
        grid: the anchors; their sizes play no part.
        boxes: [B, 4] xyxy.
        cells: [B, L, 2] (rows, columns) of every level in the view of each box.

    Returns:
        [B, L, 2] distances in pixels along x and y.
    """
    centers = (boxes[:, None, :2].astype(np.float64) + boxes[:, None, 2:]) / 2
    strides = grid.strides[:, None]
    nearest = np.clip(np.rint(centers / strides - grid.offset), 0, cells[:, :, ::-1] - 1)
    return np.asarray(np.abs((nearest + grid.offset) * strides - centers))


def overlap_at(box_sides: Floats, anchor_sides: Floats, distances: Floats) -> Floats:
    """Return the IoU of boxes and anchors from their sides and the distances of their centres.

    Args:
        box_sides: [B, 1, 2] (width, height), positive.
        anchor_sides: [S, 2] (width, height), positive.
        distances: [B, S, 2] along x and y.

    Returns:
        [B, S] in [0, 1].
    """
    area = box_sides[..., 0] * box_sides[..., 1] + anchor_sides[:, 0] * anchor_sides[:, 1]
    width, height = (
        np.clip(
            np.minimum(
                np.minimum(box_sides[..., axis], anchor_sides[:, axis]),
                (box_sides[..., axis] + anchor_sides[:, axis]) / 2 - distances[..., axis],
            ),
            0,
            None,
        )
        for axis in (0, 1)
    )
    inside = width * height
    return np.asarray(inside / (area - inside))


def paired_iou(boxes: Singles, anchors: Singles) -> Singles:
    """Return the IoU of P pairs, [P], in float32 and in the very steps of :func:`detector.ops.boxes.pairwise_iou`."""
    width = np.minimum(boxes[:, 2], anchors[:, 2]) - np.maximum(boxes[:, 0], anchors[:, 0])
    height = np.minimum(boxes[:, 3], anchors[:, 3]) - np.maximum(boxes[:, 1], anchors[:, 1])
    inside = np.clip(width, 0, None) * np.clip(height, 0, None)
    return np.asarray(inside / (_area(boxes) + _area(anchors) - inside))


def _area(boxes: Singles) -> Singles:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
