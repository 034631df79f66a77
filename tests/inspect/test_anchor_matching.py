"""The sparse assignment of a whole dataset equals the dense one of training, to the last bit."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from detector.anchors import AnchorGenerator
from detector.assign import assign_anchors
from detector.inspect import anchor_matching, anchor_pairs
from detector.inspect.anchor_grid import make_grid
from detector.inspect.anchor_matching import NO_LEVEL, BoxMatches, match_boxes
from detector.inspect.training_boxes import TrainingBoxes
from detector.ops.boxes import pairwise_iou
from detector.structures import Size

Boxes = npt.NDArray[np.float32]

GENERATORS = {
    "of the paper": AnchorGenerator(),
    "half as large": AnchorGenerator(sizes=(16, 32, 64, 128, 256)),
    "with gaps between them": AnchorGenerator(sizes=(3, 5, 9, 17, 30), scales=(1.0,), aspect_ratios=(1.0,)),
    "large on fine levels": AnchorGenerator(sizes=(100, 100, 100, 200, 300), scales=(1.0, 1.3), aspect_ratios=(0.3, 2)),
    "as small as their strides": AnchorGenerator(sizes=(9, 18, 35, 70, 140), scales=(1.0,)),
    "off the corners": AnchorGenerator(sizes=(11.3, 30, 55.5, 120, 260), offset=0.37),
}


def training_boxes(boxes: Sequence[Boxes], padded_sizes: Sequence[Size]) -> TrainingBoxes:
    num_boxes, views = sum(map(len, boxes)), np.arange(len(boxes))
    sizes = np.array(padded_sizes, dtype=np.int64).reshape(-1, 2)
    return TrainingBoxes(
        boxes=np.concatenate([*boxes, np.zeros((0, 4))]).astype(np.float32),
        rows=np.arange(num_boxes),
        labels=np.zeros(num_boxes, dtype=np.int64),
        views=np.repeat(views, [len(b) for b in boxes]),
        images=views,
        sizes=sizes,
        padded_sizes=sizes,
    )


def random_view(rng: np.random.Generator, least_side: float) -> tuple[Boxes, Size]:
    """Boxes of all sizes, also across the border of the image before they are clipped, some of them twice."""
    height, width = rng.integers(20, 400, 2)
    centers = rng.random((rng.integers(0, 25), 2)) * (width, height)
    sides = np.exp(rng.uniform(np.log(least_side), np.log(400), centers.shape))
    centers[:4] = (width, height) - sides[:4] / 2  # in the corner, where the grid ends
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    if rng.random() < 0.3:
        boxes = np.rint(boxes)  # whole pixels: many equal overlaps
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= 0.0099).all(axis=1)]
    return np.concatenate([boxes, boxes[:2]]), (-(-height // 32) * 32, -(-width // 32) * 32)


def dense_matches(
    boxes: Boxes, size: Size, generator: AnchorGenerator, fg_iou_thresh: float, low_quality: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Best IoU, anchors, anchors above the threshold of each box, and boxes without an anchor, as training has them."""
    anchors, gt = generator(generator.feature_shapes(size)), torch.from_numpy(boxes)
    targets = assign_anchors(
        anchors,
        gt[None],
        torch.zeros(1, len(gt), dtype=torch.int64),
        torch.ones(1, len(gt), dtype=torch.bool),
        fg_iou_thresh=fg_iou_thresh,
        bg_iou_thresh=0.4,
        allow_low_quality_matches=low_quality,
    )
    if not len(gt):
        empty = np.zeros(0, dtype=np.int64)
        return np.zeros(0, dtype=np.float32), empty, empty, 0
    iou = pairwise_iou(gt, anchors)
    chosen = targets.foreground[0].nonzero()[:, 0]
    owners = targets.matched_idxs[0, chosen]
    above = owners[iou[owners, chosen] >= fg_iou_thresh]
    counts = (np.bincount(found.numpy(), minlength=len(gt)) for found in (owners, above))
    return iou.amax(dim=1).numpy(), *counts, int(targets.num_unmatched_gt)


def check_equal(views: Sequence[tuple[Boxes, Size]], generator: AnchorGenerator, thresh: float, rule: bool) -> None:
    boxes, sizes = [boxes for boxes, _ in views], [size for _, size in views]
    found = match_boxes(
        training_boxes(boxes, sizes), make_grid(generator), fg_iou_thresh=thresh, allow_low_quality_matches=rule
    )
    dense = [dense_matches(*view, generator, thresh, rule) for view in views]
    np.testing.assert_array_equal(found.best_iou, np.concatenate([part[0] for part in dense]))
    np.testing.assert_array_equal(found.num_positives, np.concatenate([part[1] for part in dense]))
    np.testing.assert_array_equal(found.num_by_threshold, np.concatenate([part[2] for part in dense]))
    assert (found.num_positives == 0).sum() == sum(part[3] for part in dense)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("fg_iou_thresh", "low_quality"), [(0.5, True), (0.5, False), (0.4, True), (0.7, True)])
def test_every_number_is_that_of_the_dense_assignment(name: str, fg_iou_thresh: float, low_quality: bool) -> None:
    rng = np.random.default_rng(len(name))
    views = [random_view(rng, least_side=(0.01, 1.0, 8.0)[i % 3]) for i in range(12)]
    check_equal(views, GENERATORS[name], fg_iou_thresh, low_quality)


def test_slivers_at_the_edge_of_an_anchor_are_judged_in_float32() -> None:
    # Far from the origin an anchor's edge is rounded by up to 1 / 16,384 px: much for a box of a hundredth of a pixel.
    generator = AnchorGenerator(sizes=(11.3, 30, 55.5, 120, 260), scales=(1.0,), aspect_ratios=(0.7,), offset=0.37)
    rng = np.random.default_rng(1)
    anchors = generator(generator.feature_shapes((1344, 1344))).numpy()
    inside = anchors[(anchors[:, :2] > 700).all(axis=1) & (anchors[:, 2:] < 1340).all(axis=1)]
    boxes = inside[rng.choice(len(inside), 60, replace=False)].copy()
    boxes[:, :2] = boxes[:, 2:] - rng.uniform(0.01, 0.1, (60, 2))
    check_equal([(part, (1344, 1344)) for part in np.split(boxes, 4)], generator, 0.5, True)


def test_work_cut_into_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor_matching, "_BOXES_AT_ONCE", 20)
    monkeypatch.setattr(anchor_pairs, "_MAX_PLACED", 50)
    rng = np.random.default_rng(0)
    views = [random_view(rng, least_side=2.0) for _ in range(9)]
    check_equal([*views, (np.zeros((0, 4), dtype=np.float32), (32, 32))], GENERATORS["half as large"], 0.5, True)


def matches_of(box: list[float], generator: AnchorGenerator, size: Size = (128, 128)) -> BoxMatches:
    training = training_boxes([np.array([box], dtype=np.float32)], [size])
    return match_boxes(training, make_grid(generator), fg_iou_thresh=0.5, allow_low_quality_matches=True)


def test_the_best_anchor_is_the_one_that_lies_on_the_box() -> None:
    generator = AnchorGenerator(sizes=(16, 32, 64, 128, 256), scales=(1.0,), aspect_ratios=(1.0,))
    matches = matches_of([32, 16, 96, 80], generator)  # P5, 64 px, centre (64, 48): not on its grid of 32 px
    assert matches.best_levels.tolist() == [2]
    np.testing.assert_array_equal(matches.best_anchors, [[32, 0, 96, 64]])  # as near as the one at y = 64, and first
    np.testing.assert_allclose(matches.best_iou, [48 / 80])


def test_a_box_that_no_anchor_touches_has_none() -> None:
    # 2 px anchors around multiples of 8, or coarser, touch nothing between 2 and 6.
    generator = AnchorGenerator(sizes=(2, 2, 2, 2, 2), scales=(1.0,), aspect_ratios=(1.0,))
    matches = matches_of([2, 2, 6, 6], generator)
    assert matches.best_levels.tolist() == [NO_LEVEL]
    assert (matches.best_iou.tolist(), matches.num_positives.tolist()) == ([0.0], [0])
    np.testing.assert_array_equal(matches.best_anchors, np.zeros((1, 4)))


@pytest.mark.parametrize("views", [[], [(32, 32)], [(32, 32), (64, 64)]])
def test_images_without_boxes_are_fine(views: list[Size]) -> None:
    training = training_boxes([np.zeros((0, 4), dtype=np.float32) for _ in views], views)
    matches = match_boxes(training, make_grid(AnchorGenerator()), fg_iou_thresh=0.5, allow_low_quality_matches=True)
    assert len(matches.best_iou) == len(matches.best_anchors) == 0


def test_progress_counts_every_box() -> None:
    rng = np.random.default_rng(3)
    views = [random_view(rng, least_side=8.0) for _ in range(5)]
    training = training_boxes([boxes for boxes, _ in views], [size for _, size in views])
    done: list[int] = []
    match_boxes(
        training,
        make_grid(AnchorGenerator()),
        fg_iou_thresh=0.5,
        allow_low_quality_matches=True,
        advance=done.append,
    )
    assert sum(done) == len(training)
