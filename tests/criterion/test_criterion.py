from dataclasses import astuple
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from detector.assign import assign_anchors
from detector.config import BoxLossConfig
from detector.criterion import Criterion, LossNormalizer, NormalizerMode
from detector.structures import BACKGROUND, IGNORE, AnchorTargets, HeadOutputs
from tests.criterion.cases import (
    ANCHORS_PER_LEVEL,
    MODES,
    NUM_CLASSES,
    decode,
    iou,
    l1_by_hand,
    leaves,
    make_case,
    map_outputs,
    normalizer_by_hand,
    random_leaf,
    select_images,
)
from tests.helpers import random_boxes

BOX_LOSSES = BoxLossConfig.model_json_schema()["properties"]["name"]["enum"]


def test_the_case_has_what_the_tests_below_are_about() -> None:
    _, targets, _ = make_case()
    assert (targets.num_foreground[[0, 1, 3]] > 0).all()
    assert targets.num_foreground[2] == 0
    assert (targets.target_labels[1] == IGNORE).sum() > 5  # inside the ignore region
    assert (targets.target_labels == BACKGROUND).any(dim=1).all()
    assert targets.num_unmatched_gt.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_box_loss_equals_a_loop_over_anchors_and_the_total_is_the_sum(mode: NormalizerMode, beta: float) -> None:
    outputs, targets, anchors = make_case()
    divisors = normalizer_by_hand(mode, targets.num_foreground.tolist())
    expected = sum(x / d for x, d in zip(l1_by_hand(outputs, targets, anchors, beta), divisors, strict=True))

    criterion = Criterion(box_beta=beta, box_weight=1.5)
    normalizer = LossNormalizer(mode)(targets.num_foreground, targets.num_foreground.sum(), 4)
    losses = criterion(outputs, targets, anchors, normalizer).detach()
    # The outputs are float64; boxes, and so the encoded targets, float32.
    assert_close(losses.loss_box.item(), 1.5 * expected, rtol=1e-6, atol=0)
    assert_close(losses.total, losses.loss_cls + losses.loss_box)
    assert_close(losses.loss_cls, losses.loss_cls_fg + losses.loss_cls_bg)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_and_gradients_equal_torchvision_with_the_image_normalizer(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    anchors = random_boxes(80, generator).to(dtype)
    targets = [
        {
            "boxes": random_boxes(m, generator).to(dtype),
            "labels": torch.randint(0, NUM_CLASSES, (m,), generator=generator),
        }
        for m in (4, 1, 0)
    ]
    cls_logits = random_leaf(3, 80, NUM_CLASSES, generator=generator).detach().to(dtype).requires_grad_()
    bbox_deltas = random_leaf(3, 80, 4, generator=generator).detach().to(dtype).requires_grad_()

    matches = [
        Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(target["boxes"], anchors))
        if len(target["boxes"])
        else torch.full((80,), BACKGROUND)
        for target in targets
    ]
    head = RetinaNetHead(in_channels=8, num_anchors=1, num_classes=NUM_CLASSES)
    head_outputs = {"cls_logits": cls_logits, "bbox_regression": bbox_deltas}
    theirs = head.compute_loss(targets, head_outputs, [anchors] * 3, matches)

    gt_boxes, gt_labels = torch.zeros(3, 4, 4, dtype=dtype), torch.zeros(3, 4, dtype=torch.int64)
    gt_mask = torch.zeros(3, 4, dtype=torch.bool)
    for i, target in enumerate(targets):
        m = len(target["boxes"])
        gt_boxes[i, :m], gt_labels[i, :m], gt_mask[i, :m] = target["boxes"], target["labels"], True
    ours_targets = assign_anchors(anchors, gt_boxes, gt_labels, gt_mask)
    normalizer = LossNormalizer("image")(ours_targets.num_foreground, ours_targets.num_foreground.sum(), 3)
    outputs = HeadOutputs(cls_logits.split([50, 30], dim=1), bbox_deltas.split([50, 30], dim=1))
    ours = Criterion()(outputs, ours_targets, anchors, normalizer)

    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    assert_close(ours.loss_cls, theirs["classification"], **tolerance)
    assert_close(ours.loss_box, theirs["bbox_regression"], **tolerance)
    wrt = (cls_logits, bbox_deltas)
    assert_close(
        torch.autograd.grad(ours.total, wrt),
        torch.autograd.grad(theirs["classification"] + theirs["bbox_regression"], wrt),
        **tolerance,
    )


@pytest.mark.parametrize(
    ("box_loss", "reference"),
    [
        ("giou", torchvision.ops.generalized_box_iou_loss),
        ("diou", torchvision.ops.distance_box_iou_loss),
        ("ciou", torchvision.ops.complete_box_iou_loss),
    ],
)
def test_overlap_losses_are_computed_on_the_decoded_boxes_of_foreground_anchors(box_loss: Any, reference: Any) -> None:
    outputs, targets, anchors = make_case()
    deltas = torch.cat(outputs.bbox_deltas, dim=1)
    rows = targets.foreground.nonzero().tolist()
    boxes = torch.tensor([decode(deltas[i, r].tolist(), anchors[r].tolist()) for i, r in rows], dtype=torch.float64)
    matched = torch.stack([targets.matched_boxes[i, r] for i, r in rows]).double()
    losses = Criterion(box_loss=box_loss)(outputs, targets, anchors, 7.0)
    assert_close(losses.loss_box.detach(), reference(boxes, matched, reduction="sum") / 7, rtol=1e-6, atol=0)


def test_the_iou_loss_is_computed_on_the_decoded_boxes_of_foreground_anchors() -> None:
    outputs, targets, anchors = make_case()
    deltas = torch.cat(outputs.bbox_deltas, dim=1)
    expected = sum(
        1 - iou(decode(deltas[i, r].tolist(), anchors[r].tolist()), targets.matched_boxes[i, r].tolist())
        for i, r in targets.foreground.nonzero().tolist()
    )
    losses = Criterion(box_loss="iou")(outputs, targets, anchors, 7.0)
    assert_close(losses.loss_box.item(), expected / 7, rtol=1e-6, atol=0)


def test_l1_is_smooth_l1_without_a_parabola() -> None:
    l1, smooth = (Criterion(box_loss=name)(*make_case(), 7.0).loss_box for name in ("l1", "smooth_l1"))
    assert_close(l1, smooth, rtol=0, atol=0)


@pytest.mark.parametrize("box_loss", BOX_LOSSES)
def test_anchors_without_object_get_no_box_gradient_and_ignored_ones_no_class_gradient(box_loss: Any) -> None:
    outputs, targets, anchors = make_case()
    # Boxes near their anchors, so that they overlap with their objects: apart, 1 - IoU has no gradient.
    near = tuple((0.1 * leaf.detach()).requires_grad_() for leaf in outputs.bbox_deltas)
    outputs = HeadOutputs(outputs.cls_logits, near)
    Criterion(box_loss=box_loss)(outputs, targets, anchors, 5.0).total.backward()
    cls_gradient, box_gradient = (
        torch.cat([leaf.grad for leaf in levels], dim=1)  # type: ignore[misc]
        for levels in (outputs.cls_logits, outputs.bbox_deltas)
    )
    assert torch.equal(cls_gradient.ne(0).all(dim=2), targets.target_labels != IGNORE)
    assert torch.equal(cls_gradient.ne(0).any(dim=2), targets.target_labels != IGNORE)
    assert torch.equal(box_gradient.ne(0).any(dim=2), targets.foreground)


@pytest.mark.parametrize("box_loss", BOX_LOSSES)
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e30])
def test_wild_offsets_of_other_anchors_leave_loss_and_gradient_alone(box_loss: Any, value: float) -> None:
    outputs, targets, anchors = make_case()
    foreground = targets.foreground.split(ANCHORS_PER_LEVEL, dim=1)
    wild = HeadOutputs(
        outputs.cls_logits,
        tuple(
            torch.where(fg.unsqueeze(-1), leaf.detach(), value).requires_grad_()
            for fg, leaf in zip(foreground, outputs.bbox_deltas, strict=True)
        ),
    )
    criterion = Criterion(box_loss=box_loss)
    losses = criterion(wild, targets, anchors, 5.0)
    assert_close(losses.loss_box, criterion(outputs, targets, anchors, 5.0).loss_box, atol=0, rtol=0)
    losses.total.backward()
    for fg, leaf in zip(foreground, wild.bbox_deltas, strict=True):
        assert leaf.grad is not None
        assert torch.count_nonzero(leaf.grad[~fg]) == 0
        assert leaf.grad.isfinite().all()


def test_images_without_objects_still_push_the_scores_down() -> None:
    outputs, targets, anchors = make_case()
    outputs, targets = select_images(map_outputs(outputs, Tensor.detach), targets, slice(2, 3))
    outputs = map_outputs(outputs, Tensor.requires_grad_)
    normalizer = LossNormalizer()(targets.num_foreground, targets.num_foreground.sum(), 1)
    losses = Criterion()(outputs, targets, anchors, normalizer)
    assert normalizer == 1
    assert losses.loss_box == losses.loss_cls_fg == 0
    assert losses.loss_cls_bg == losses.total > 0
    losses.total.backward()
    assert all((leaf.grad > 0).all() for leaf in outputs.cls_logits)  # type: ignore[operator]


@pytest.mark.parametrize("mode", MODES)
def test_micro_batches_add_up_to_the_whole_batch(mode: NormalizerMode) -> None:
    outputs, targets, anchors = make_case()
    criterion, normalizer, total_fg = Criterion(), LossNormalizer(mode), targets.num_foreground.sum()
    whole = criterion(outputs, targets, anchors, normalizer(targets.num_foreground, total_fg, 4))
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        part_outputs, part_targets = select_images(outputs, targets, rows)
        part_normalizer = normalizer(part_targets.num_foreground, total_fg, 4)
        parts.append(criterion(part_outputs, part_targets, anchors, part_normalizer))
    assert_close(astuple((parts[0] + parts[1]).detach()), astuple(whole.detach()), rtol=1e-12, atol=0)
    assert_close(
        torch.autograd.grad((parts[0] + parts[1]).total, leaves(outputs)),
        torch.autograd.grad(whole.total, leaves(outputs)),
        rtol=1e-12,
        atol=1e-15,
    )


def test_the_order_of_images_does_not_matter() -> None:
    outputs, targets, anchors = make_case()
    order = torch.tensor([3, 1, 0, 2])
    fields = (targets.target_labels, targets.matched_idxs, targets.matched_boxes, targets.num_unmatched_gt)
    shuffled = map_outputs(outputs, lambda tensor: tensor[order]), AnchorTargets(*(field[order] for field in fields))
    assert_close(
        Criterion()(*shuffled, anchors, 3.0).total,
        Criterion()(outputs, targets, anchors, 3.0).total,
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("box_loss", BOX_LOSSES)
def test_half_outputs_are_computed_in_float32(dtype: torch.dtype, box_loss: Any) -> None:
    outputs, targets, anchors = make_case()
    half = map_outputs(outputs, lambda tensor: tensor.detach().to(dtype).requires_grad_())
    whole = map_outputs(half, lambda tensor: tensor.detach().float())
    criterion = Criterion(box_loss=box_loss)
    losses = criterion(half, targets, anchors, 5.0)
    assert losses.total.dtype == torch.float32
    assert_close(astuple(losses.detach()), astuple(criterion(whole, targets, anchors, 5.0).detach()), atol=0, rtol=0)
    losses.total.backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves(half))


def test_box_weight_multiplies_only_the_box_loss() -> None:
    one, three = (Criterion(box_weight=weight)(*make_case(), 5.0) for weight in (1.0, 3.0))
    assert_close(three.loss_box, 3 * one.loss_box)
    assert_close(three.loss_cls, one.loss_cls, atol=0, rtol=0)
