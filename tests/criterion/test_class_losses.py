"""Every class loss through the criterion, against loops in plain Python."""

import math
from dataclasses import astuple, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.config import ClsLossConfig
from detector.criterion import (
    ClassLoss,
    LossNormalizer,
    NormalizerMode,
    build_class_loss,
    sigmoid_focal_class_loss,
)
from detector.ops.box_coding import encode_boxes
from detector.structures import BACKGROUND, IGNORE, HeadOutputs
from tests.criterion.cases import (
    ANCHORS_PER_LEVEL,
    CLASS_LOSSES,
    EXACT,
    MODES,
    NUM_CLASSES,
    anchors_by_hand,
    build,
    every_class_loss,
    f64,
    leaves,
    make_case,
    make_ground_truth,
    map_outputs,
    normalizer_by_hand,
    num_logits,
    select_images,
)

NUM_LEVELS = len(ANCHORS_PER_LEVEL)


def test_there_is_a_case_for_every_class_loss() -> None:
    names = ClsLossConfig.model_json_schema()["properties"]["name"]["enum"]
    assert {config.name for config in CLASS_LOSSES.values()} == set(names)


@every_class_loss
@pytest.mark.parametrize("mode", MODES)
def test_losses_levels_and_counts_equal_a_loop_over_anchors_and_classes(
    config: ClsLossConfig, mode: NormalizerMode
) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    divisors = normalizer_by_hand(mode, targets.num_foreground.tolist())
    level_fg, level_bg = [0.0] * NUM_LEVELS, [0.0] * NUM_LEVELS
    counts = [[0] * NUM_LEVELS for _ in range(3)]
    for anchor in anchors_by_hand(config, outputs, targets, anchors):
        kind = 0 if anchor.label >= 0 else 1 if anchor.label == BACKGROUND else 2
        counts[kind][anchor.level] += 1
        if kind < 2:
            (level_fg, level_bg)[kind][anchor.level] += anchor.loss / divisors[anchor.image]

    normalizer = LossNormalizer(mode)(targets.num_foreground, targets.num_foreground.sum(), 4)
    losses = build(config)(outputs, targets, anchors, normalizer)
    assert_close(losses.level_loss_cls_fg, f64(level_fg), **EXACT)
    assert_close(losses.level_loss_cls_bg, f64(level_bg), **EXACT)
    assert_close(losses.loss_cls_fg.detach(), f64(sum(level_fg)), **EXACT)
    assert_close(losses.loss_cls_bg.detach(), f64(sum(level_bg)), **EXACT)
    assert losses.level_counts.tolist() == counts
    assert losses.level_counts.dtype == torch.int64
    assert not losses.level_loss_cls_fg.requires_grad
    assert not losses.level_loss_cls_bg.requires_grad


@every_class_loss
def test_micro_batches_add_up_with_their_levels(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    criterion = build(config)
    whole = criterion(outputs, targets, anchors, 5.0)
    first, second = (
        criterion(*select_images(outputs, targets, rows), anchors, 5.0) for rows in (slice(0, 3), slice(3, 4))
    )
    assert_close(astuple((first + second).detach()), astuple(whole.detach()), rtol=1e-12, atol=0)


@every_class_loss
def test_ignored_anchors_get_no_class_gradient_and_others_do(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    build(config)(outputs, targets, anchors, 5.0).loss_cls.backward()
    gradient = torch.cat([leaf.grad for leaf in outputs.cls_logits], dim=1)  # type: ignore[misc]
    reached = gradient.ne(0).any(dim=2)
    assert gradient.isfinite().all()
    assert not reached[targets.target_labels == IGNORE].any()
    assert reached[targets.foreground].all()
    if config.name != "ohem":
        assert reached[targets.target_labels == BACKGROUND].all()


@every_class_loss
@pytest.mark.parametrize("value", [100.0, -100.0, 1e4])
def test_wild_logits_of_ignored_anchors_change_nothing(config: ClsLossConfig, value: float) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    criterion = build(config)
    labels = targets.target_labels.split(ANCHORS_PER_LEVEL, dim=1)
    wild = HeadOutputs(
        tuple(
            torch.where(level.unsqueeze(-1) == IGNORE, value, logits.detach()).requires_grad_()
            for level, logits in zip(labels, outputs.cls_logits, strict=True)
        ),
        outputs.bbox_deltas,
    )
    losses, expected = criterion(wild, targets, anchors, 5.0), criterion(outputs, targets, anchors, 5.0)
    assert_close(astuple(losses.detach()), astuple(expected.detach()), rtol=0, atol=0)
    losses.loss_cls.backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in wild.cls_logits)
    details = [
        criterion.detail(levels, targets, anchors, 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
        for levels in (wild, outputs)
    ]
    assert_close(astuple(details[0]), astuple(details[1]), rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in CLASS_LOSSES if name.startswith("softmax")])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_with_softmax_logits_of_ignored_anchors_may_even_be_infinite(name: str, value: float) -> None:
    outputs, targets, anchors = make_case(NUM_CLASSES + 1)
    criterion = build(CLASS_LOSSES[name])
    ignored = (targets.target_labels == IGNORE).split(ANCHORS_PER_LEVEL, dim=1)
    wild = HeadOutputs(
        tuple(
            torch.where(mask.unsqueeze(-1), value, logits.detach()).requires_grad_()
            for mask, logits in zip(ignored, outputs.cls_logits, strict=True)
        ),
        outputs.bbox_deltas,
    )
    losses, expected = criterion(wild, targets, anchors, 5.0), criterion(outputs, targets, anchors, 5.0)
    assert_close(astuple(losses.detach()), astuple(expected.detach()), rtol=0, atol=0)
    losses.loss_cls.backward()
    for mask, leaf in zip(ignored, wild.cls_logits, strict=True):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert torch.count_nonzero(leaf.grad[mask]) == 0
    detail = criterion.detail(wild, targets, anchors, 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
    assert all(value.isfinite().all() for value in astuple(detail))


@every_class_loss
def test_the_class_loss_sends_no_gradient_into_the_boxes(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    build(config)(outputs, targets, anchors, 5.0).loss_cls.backward()
    assert all(leaf.grad is None for leaf in outputs.bbox_deltas)


@pytest.mark.parametrize("name", ["quality_focal", "varifocal"])
def test_a_good_box_asks_for_a_higher_score_and_a_bad_one_for_a_lower(name: str) -> None:
    outputs, targets, anchors = make_case()
    level_labels = targets.target_labels.split(ANCHORS_PER_LEVEL, dim=1)
    perfect = encode_boxes(targets.matched_boxes, anchors).double().split(ANCHORS_PER_LEVEL, dim=1)
    for deltas, pulls_up in ((perfect, True), (outputs.bbox_deltas, False)):  # the random boxes' IoU is below 0.2
        logits = tuple(torch.full_like(level, math.log(0.4 / 0.6), requires_grad=True) for level in outputs.cls_logits)
        losses = build(CLASS_LOSSES[name])(HeadOutputs(logits, deltas), targets, anchors, 1.0)
        gradients = torch.autograd.grad(losses.loss_cls, logits)
        for gradient, labels in zip(gradients, level_labels, strict=True):
            own = gradient.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)[labels >= 0]
            assert ((own < 0) == pulls_up).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_class_loss
def test_half_logits_are_computed_in_float32(dtype: torch.dtype, config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    half = map_outputs(outputs, lambda tensor: tensor.detach().to(dtype).requires_grad_())
    whole = map_outputs(half, lambda tensor: tensor.detach().float())
    criterion = build(config)
    losses = criterion(half, targets, anchors, 5.0)
    assert losses.loss_cls.dtype == torch.float32
    # Terms are equal; where half ones are read from a table, some CPUs add them up in another order.
    expected = criterion(whole, targets, anchors, 5.0).detach()
    assert_close(astuple(losses.detach()), astuple(expected), rtol=2 * torch.finfo(torch.float32).eps, atol=0)
    losses.total.backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves(half))
    details = [
        criterion.detail(levels, targets, anchors, 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
        for levels in (half, whole)
    ]
    assert_close(astuple(details[0]), astuple(details[1]), rtol=0, atol=0)


@every_class_loss
def test_a_batch_without_objects_has_a_loss_that_is_finite(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    rows = slice(2, 3)
    outputs, targets = select_images(map_outputs(outputs, Tensor.detach), targets, rows)
    outputs = map_outputs(outputs, Tensor.requires_grad_)
    losses = build(config)(outputs, targets, anchors, 1.0)
    losses.total.backward()
    assert losses.loss_cls_fg == 0
    assert (losses.loss_cls_bg > 0) == (config.name != "ohem")  # which keeps negatives for positives only
    gt_labels, gt_mask = make_ground_truth()
    detail = build(config).detail(outputs, targets, anchors, 1.0, gt_labels[rows, :0], gt_mask[rows, :0], num_classes=3)
    assert detail.num_gt == detail.class_num_foreground.sum() == detail.sum_p_foreground == 0
    assert_close(detail.class_loss_cls_bg.sum(), losses.loss_cls_bg.detach(), rtol=1e-12, atol=0)


def test_hard_examples_are_chosen_from_all_levels_of_an_image() -> None:
    outputs, targets, _ = make_case()
    # The finest level is sure of everything: none of its background anchors is hard.
    outputs = HeadOutputs((outputs.cls_logits[0] - 20, *outputs.cls_logits[1:]), outputs.bbox_deltas)
    config = ClsLossConfig(name="ohem", negatives_per_positive=3.0)
    labels = targets.target_labels.split(ANCHORS_PER_LEVEL, dim=1)
    losses = build(config).class_loss.anchor_losses(outputs.cls_logits, labels, None)
    chosen = torch.stack(
        [
            ((level_labels == BACKGROUND) & (loss > 0)).sum(dim=1)
            for level_labels, loss in zip(labels, losses, strict=True)
        ]
    )  # [L, N]
    assert chosen.sum(dim=0).tolist() == (3 * targets.num_foreground).tolist()
    assert (chosen[0] == 0).all()
    assert (chosen[1:, 0] > 0).all()


def test_background_anchors_that_were_not_chosen_get_no_gradient() -> None:
    outputs, targets, anchors = make_case()
    build(CLASS_LOSSES["ohem"])(outputs, targets, anchors, 5.0).loss_cls.backward()
    gradient = torch.cat([leaf.grad for leaf in outputs.cls_logits], dim=1)  # type: ignore[misc]
    reached = gradient.ne(0).any(dim=2) & (targets.target_labels == BACKGROUND)
    assert reached.sum(dim=1).tolist() == [7, 2, 0, 2]  # 2.5 for each foreground anchor, rounded down


def test_one_alpha_of_a_softmax_loss_is_the_pair_of_objects_and_background() -> None:
    outputs, targets, anchors = make_case(NUM_CLASSES + 1)
    for name in ("softmax_ce", "softmax_focal"):
        pair, plain = (
            build(ClsLossConfig(name=name, alpha=alpha))(outputs, targets, anchors, 5.0) for alpha in (0.3, None)
        )
        assert_close(pair.loss_cls_fg, 0.3 * plain.loss_cls_fg)
        assert_close(pair.loss_cls_bg, 0.7 * plain.loss_cls_bg)


def test_the_focal_loss_of_all_levels_at_once_equals_that_of_its_anchors() -> None:
    outputs, targets, _ = make_case()
    labels = targets.target_labels.split(ANCHORS_PER_LEVEL, dim=1)
    at_once = sigmoid_focal_class_loss(alpha=(0.2, 0.5, 0.9), gamma=1.5)
    one_by_one = replace(at_once, all_levels=None)
    with torch.no_grad():
        assert_close(
            astuple(at_once.sums(outputs.cls_logits, labels, None)),
            astuple(one_by_one.sums(outputs.cls_logits, labels, None)),
        )


@pytest.mark.parametrize("name", ["sigmoid_focal per class", "softmax_ce per class", "softmax_focal"])
def test_weights_of_classes_that_an_evaluation_made_first_serve_training(name: str) -> None:
    config = CLASS_LOSSES[name]
    outputs, targets, anchors = make_case(num_logits(config))
    criterion = build(config)
    with torch.inference_mode():
        first = criterion(outputs, targets, anchors, 5.0)
    second = criterion(outputs, targets, anchors, 5.0)
    second.total.backward()
    assert_close(second.total.detach(), first.total, rtol=0, atol=0)


def test_a_class_loss_is_sigmoid_and_takes_all_anchors_unless_it_says_otherwise() -> None:
    said = {name: build_class_loss(config, NUM_CLASSES) for name, config in CLASS_LOSSES.items()}

    def names(condition: Any) -> set[str]:
        return {CLASS_LOSSES[name].name for name, class_loss in said.items() if condition(class_loss)}

    assert names(lambda loss: loss.activation == "softmax") == {"softmax_ce", "softmax_focal"}
    assert names(lambda loss: loss.uses_quality) == {"quality_focal", "varifocal"}
    assert names(lambda loss: loss.negatives_per_positive is not None) == {"ohem"}
    assert all(isinstance(class_loss, ClassLoss) for class_loss in said.values())
