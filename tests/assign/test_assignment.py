from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detector.assign import assign_anchors
from detector.structures import BACKGROUND, IGNORE
from tests.assign.cases import BACKENDS, assert_targets_equal
from tests.helpers import random_boxes

Box = Sequence[int]


@pytest.fixture(params=BACKENDS, autouse=True)
def _each_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.assign.assignment._resolve", lambda *_: request.param)


def grid_boxes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """[*shape, 4] boxes on a coarse grid of integers in 32 x 32 pixels: many IoUs are equal, and exact as fractions."""
    corners = torch.randint(0, 7, (*shape, 2), generator=generator)
    sides = torch.randint(1, 4, (*shape, 2), generator=generator)
    return (torch.cat([corners, corners + sides], dim=-1) * 3).float()


def as_batch(boxes: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """One image with these boxes, all of them objects."""
    labels = torch.arange(len(boxes)) if labels is None else labels
    return boxes[None], labels[None], torch.ones(1, len(boxes), dtype=torch.bool)


def common_area(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def assign_by_hand(
    anchors: Sequence[Box],
    boxes: Sequence[Box],
    labels: Sequence[int],
    mask: Sequence[bool],
    ignore: Sequence[bool],
    low_quality: bool,
) -> tuple[list[int], list[int]]:
    """Labels and matched rows of one image by the rules of the docstring, with exact fractions."""
    objects = [row for row, is_object in enumerate(mask) if is_object]
    iou = [
        [Fraction(c := common_area(boxes[row], a), area(boxes[row]) + area(a) - c) for a in anchors] for row in objects
    ]
    target_labels, matched = [], []
    for idx, anchor in enumerate(anchors):
        column = [row_iou[idx] for row_iou in iou]
        best = max(column, default=Fraction(-1))
        is_best_of_some = low_quality and any(row_iou[idx] == max(row_iou) > 0 for row_iou in iou)
        in_region = any(
            2 * common_area(boxes[row], anchor) >= area(anchor) for row, is_region in enumerate(ignore) if is_region
        )
        row = 0
        if best >= Fraction(1, 2) or is_best_of_some:
            row = objects[column.index(best)]
            target_labels.append(labels[row])
        elif best >= Fraction(2, 5) or in_region:
            target_labels.append(IGNORE)
        else:
            target_labels.append(BACKGROUND)
        matched.append(row)
    return target_labels, matched


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_assignment_equals_a_loop_over_images_and_anchors_with_exact_arithmetic(seed: int, low_quality: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors, gt_boxes = grid_boxes((60,), generator), grid_boxes((4, 7), generator)
    gt_labels = torch.randint(0, 5, (4, 7), generator=generator)
    kind = torch.randint(0, 3, (4, 7), generator=generator)  # object, ignore region, padding
    kind[3] = 2  # an image without objects
    gt_boxes[kind == 2] = 0
    targets = assign_anchors(anchors, gt_boxes, gt_labels, kind == 0, kind == 1, allow_low_quality_matches=low_quality)
    for i in range(4):
        labels, matched = assign_by_hand(
            anchors.int().tolist(),
            gt_boxes[i].int().tolist(),
            gt_labels[i].tolist(),
            (kind[i] == 0).tolist(),
            (kind[i] == 1).tolist(),
            low_quality,
        )
        assert targets.target_labels[i].tolist() == labels
        assert targets.matched_idxs[i].tolist() == matched
        foreground_rows = {row for row, label in zip(matched, labels, strict=True) if label >= 0}
        assert targets.num_unmatched_gt[i] == int((kind[i] == 0).sum()) - len(foreground_rows)
        assert_close(targets.matched_boxes[i], gt_boxes[i][torch.tensor(matched)], atol=0, rtol=0)


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_matching_equals_torchvision(seed: int, ties: bool, low_quality: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    make = grid_boxes if ties else lambda shape, g: random_boxes(shape[0], g)
    anchors, boxes = make((400,), generator), make((30,), generator)
    targets = assign_anchors(anchors, *as_batch(boxes), allow_low_quality_matches=low_quality)

    iou = box_iou(boxes, anchors)
    # Our one deviation: a ground truth that no anchor touches matches nothing (torchvision: all anchors).
    touched = torch.where(iou.amax(dim=1) > 0)[0]
    matches = Matcher(0.5, 0.4, allow_low_quality_matches=low_quality)(iou[touched])
    expected = torch.where(matches >= 0, touched[matches.clamp(min=0)], matches)
    # The label of row m is m, and torchvision's -1 and -2 mean the same as ours.
    assert_close(targets.target_labels[0], expected, atol=0, rtol=0)
    assert (BACKGROUND, IGNORE) == (Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS)
    assert (expected >= 0).any()
    assert (expected == IGNORE).any()


def test_thresholds_belong_to_the_upper_side() -> None:
    gt = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    anchors = torch.tensor(
        [
            [0.0, 0.0, 10.0, 5.0],  # IoU 50 / 100 = 0.5 exactly
            [0.0, 0.0, 10.0, 4.99],
            [0.0, 0.0, 10.0, 4.0],  # IoU 0.4 exactly
            [0.0, 0.0, 10.0, 3.99],
        ]
    )
    targets = assign_anchors(anchors, *as_batch(gt), allow_low_quality_matches=False)
    assert targets.target_labels[0].tolist() == [0, IGNORE, IGNORE, BACKGROUND]


def test_low_quality_rule_matches_all_anchors_that_share_the_best_iou() -> None:
    gt = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 101.0, 101.0]])
    anchors = torch.tensor([[0.0, 0.0, 10.0, 2.0], [0.0, 8.0, 10.0, 10.0], [0.0, 0.0, 10.0, 1.0]])
    on = assign_anchors(anchors, *as_batch(gt))
    off = assign_anchors(anchors, *as_batch(gt), allow_low_quality_matches=False)
    assert on.target_labels[0].tolist() == [0, 0, BACKGROUND]
    assert off.target_labels[0].tolist() == [BACKGROUND] * 3
    assert (on.num_unmatched_gt.tolist(), off.num_unmatched_gt.tolist()) == ([1], [2])


def test_an_anchor_forced_by_one_object_goes_to_the_one_it_overlaps_most() -> None:
    gt = torch.tensor([[0.0, 0.0, 10.0, 3.0], [0.0, 0.0, 10.0, 9.0]])
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]])  # the best of both: IoU 0.3 and 0.9
    targets = assign_anchors(anchors, *as_batch(gt))
    assert targets.matched_idxs.tolist() == [[1]]
    assert targets.num_unmatched_gt.tolist() == [1]


def test_a_ground_truth_that_no_anchor_touches_matches_nothing_and_is_counted() -> None:
    gt = torch.tensor([[500.0, 500.0, 510.0, 510.0]])
    targets = assign_anchors(random_boxes(50, torch.Generator().manual_seed(0)), *as_batch(gt))
    assert (targets.target_labels == BACKGROUND).all()
    assert targets.num_unmatched_gt.tolist() == [1]


def test_equal_ious_go_to_the_first_ground_truth() -> None:
    gt = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)
    targets = assign_anchors(gt[:1], *as_batch(gt, torch.tensor([4, 2, 3])))
    assert targets.target_labels.tolist() == [[4]]
    assert targets.num_unmatched_gt.tolist() == [2]


def test_ignore_regions_never_match_and_spare_their_anchors_from_the_background() -> None:
    gt = torch.tensor([[[0.0, 0.0, 40.0, 40.0], [60.0, 0.0, 70.0, 10.0]]])
    anchors = torch.tensor(
        [
            [0.0, 0.0, 40.0, 40.0],  # the region itself
            [10.0, 10.0, 20.0, 20.0],  # inside: IoU is small, the share of the anchor is 1
            [35.0, 0.0, 45.0, 10.0],  # exactly half inside
            [36.0, 0.0, 46.0, 10.0],  # less than half inside
            [60.0, 0.0, 70.0, 10.0],  # the object
        ]
    )
    mask, ignore = torch.tensor([[False, True]]), torch.tensor([[True, False]])
    targets = assign_anchors(anchors, gt, torch.tensor([[3, 1]]), mask, ignore)
    assert targets.target_labels.tolist() == [[IGNORE, IGNORE, IGNORE, BACKGROUND, 1]]
    assert targets.num_unmatched_gt.tolist() == [0]


def test_an_object_inside_an_ignore_region_still_matches() -> None:
    gt = torch.tensor([[[0.0, 0.0, 100.0, 100.0], [10.0, 10.0, 20.0, 20.0]]])
    mask, ignore = torch.tensor([[False, True]]), torch.tensor([[True, False]])
    targets = assign_anchors(gt[0, 1:], gt, torch.tensor([[0, 7]]), mask, ignore)
    assert targets.target_labels.tolist() == [[7]]
    assert targets.matched_idxs.tolist() == [[1]]


def test_padding_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors, boxes = random_boxes(300, generator), random_boxes(5, generator)
    plain = assign_anchors(anchors, *as_batch(boxes))
    gt_boxes, gt_labels, gt_mask = as_batch(torch.cat([boxes, torch.zeros(4, 4)]))
    gt_mask[:, 5:] = False
    assert_targets_equal(assign_anchors(anchors, gt_boxes, gt_labels, gt_mask, torch.zeros_like(gt_mask)), plain)


@pytest.mark.parametrize("num_rows", [0, 3])
def test_an_image_without_objects_is_all_background(num_rows: int) -> None:
    anchors = random_boxes(20, torch.Generator().manual_seed(0))
    gt_mask = torch.zeros(2, num_rows, dtype=torch.bool)
    targets = assign_anchors(anchors, torch.zeros(2, num_rows, 4), gt_mask.long(), gt_mask, gt_mask)
    assert (targets.target_labels == BACKGROUND).all()
    assert (targets.matched_idxs == 0).all()
    assert targets.matched_boxes.shape == (2, 20, 4)
    assert targets.num_unmatched_gt.tolist() == targets.num_foreground.tolist() == [0, 0]


@pytest.mark.parametrize("max_pairs", [1, 2 * 60 * 2, 2 * 60 * 3])
def test_chunks_give_identical_targets(max_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    anchors, gt_boxes = grid_boxes((60,), generator), grid_boxes((2, 11), generator)
    gt_boxes[:, 6:] = gt_boxes[:, :5]  # ties across chunks
    kind = torch.randint(0, 4, (2, 11), generator=generator)
    arguments = (anchors, gt_boxes, torch.arange(11).expand(2, -1), kind < 2, kind == 2)
    whole = assign_anchors(*arguments)
    assert (whole.num_foreground > 0).all()
    monkeypatch.setattr("detector.assign.eager._MAX_PAIRS", max_pairs)
    monkeypatch.setattr("detector.assign.sparse._MAX_PAIRS", max(1, max_pairs))
    monkeypatch.setattr("detector.assign.sparse._BLOCK", 7)
    assert_targets_equal(assign_anchors(*arguments), whole)


def test_other_thresholds_are_used() -> None:
    gt = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 10.0]]])
    anchors = torch.tensor([[0.0, 0.0, 10.0, 6.0], [0.0, 0.0, 10.0, 3.0], [18.0, 0.0, 28.0, 10.0]])
    arguments = anchors, gt, torch.tensor([[0, 1]]), torch.tensor([[True, False]]), torch.tensor([[False, True]])
    targets = assign_anchors(
        *arguments, fg_iou_thresh=0.7, bg_iou_thresh=0.3, allow_low_quality_matches=False, ignore_ioa_thresh=0.9
    )
    assert targets.target_labels.tolist() == [[IGNORE, IGNORE, BACKGROUND]]


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bg_iou_thresh = 0.6 is above fg_iou_thresh = 0.5"):
        assign_anchors(torch.ones(1, 4), *as_batch(torch.ones(1, 4)), bg_iou_thresh=0.6)


def test_a_share_of_ignore_regions_that_every_anchor_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ignore_ioa_thresh = 0.0 must be above 0"):
        assign_anchors(torch.ones(1, 4), *as_batch(torch.ones(1, 4)), ignore_ioa_thresh=0.0)
