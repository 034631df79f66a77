"""The split by class of every class loss, against loops in plain Python."""

from dataclasses import astuple

import pytest
import torch
from torch.testing import assert_close

from detector.config import ClsLossConfig
from detector.criterion import LossNormalizer, NormalizerMode
from detector.structures import BACKGROUND, HeadOutputs
from tests.criterion.cases import (
    CLASS_LOSSES,
    EXACT,
    MODES,
    NUM_CLASSES,
    anchors_by_hand,
    build,
    every_class_loss,
    f64,
    make_case,
    make_ground_truth,
    map_outputs,
    normalizer_by_hand,
    num_logits,
    select_images,
)


@every_class_loss
@pytest.mark.parametrize("mode", MODES)
def test_the_detail_by_class_equals_a_loop_over_anchors_and_classes(
    config: ClsLossConfig, mode: NormalizerMode
) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    divisors = normalizer_by_hand(mode, targets.num_foreground.tolist())
    class_fg, class_bg, class_num_fg = [0.0] * NUM_CLASSES, [0.0] * NUM_CLASSES, [0] * NUM_CLASSES
    p_foreground = p_background = 0.0
    for anchor in anchors_by_hand(config, outputs, targets, anchors):
        if anchor.label >= 0:
            class_fg[anchor.label] += anchor.loss / divisors[anchor.image]
            class_num_fg[anchor.label] += 1
            p_foreground += anchor.probabilities[anchor.label]
        elif anchor.label == BACKGROUND:
            for k, term in enumerate(anchor.terms):
                class_bg[k] += term / divisors[anchor.image]
            p_background += max(anchor.probabilities)

    normalizer = LossNormalizer(mode)(targets.num_foreground, targets.num_foreground.sum(), 4)
    criterion = build(config)
    detail = criterion.detail(outputs, targets, anchors, normalizer, *make_ground_truth(), num_classes=NUM_CLASSES)
    assert_close(detail.class_loss_cls_fg, f64(class_fg), **EXACT)
    assert_close(detail.class_loss_cls_bg, f64(class_bg), **EXACT)
    assert detail.class_num_foreground.tolist() == class_num_fg
    assert detail.class_num_gt.tolist() == [1, 2, 3]  # not the ignore region, not the padding
    assert detail.num_gt == 6
    assert_close(detail.sum_p_foreground, f64(p_foreground), **EXACT)
    assert_close(detail.sum_p_background, f64(p_background), **EXACT)
    assert detail.num_unmatched_gt == 1

    losses = criterion(outputs, targets, anchors, normalizer)
    assert_close(detail.class_loss_cls_fg.sum(), losses.loss_cls_fg.detach(), rtol=1e-6, atol=0)
    assert_close(detail.class_loss_cls_bg.sum(), losses.loss_cls_bg.detach(), rtol=1e-6, atol=0)


@every_class_loss
def test_the_split_sums_to_the_loss_in_float32(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    outputs = map_outputs(outputs, lambda tensor: tensor.detach().float())
    losses = build(config)(outputs, targets, anchors, 5.0)
    detail = build(config).detail(outputs, targets, anchors, 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
    for of_levels, of_classes, total in (
        (losses.level_loss_cls_fg, detail.class_loss_cls_fg, losses.loss_cls_fg),
        (losses.level_loss_cls_bg, detail.class_loss_cls_bg, losses.loss_cls_bg),
    ):
        assert_close(of_levels.sum(), total, rtol=1e-6, atol=0)
        assert_close(of_classes.sum(), total.double(), rtol=1e-6, atol=0)
    assert_close(losses.loss_cls_fg + losses.loss_cls_bg, losses.loss_cls, rtol=1e-6, atol=0)


@every_class_loss
def test_the_detail_has_no_graph_and_adds_up_over_images(config: ClsLossConfig) -> None:
    outputs, targets, anchors = make_case(num_logits(config))
    gt_labels, gt_mask = make_ground_truth()
    criterion = build(config)
    whole = criterion.detail(outputs, targets, anchors, 3.0, gt_labels, gt_mask, num_classes=NUM_CLASSES)
    assert not any(value.requires_grad for value in astuple(whole))
    parts = [
        criterion.detail(
            *select_images(outputs, targets, rows), anchors, 3.0, gt_labels[rows], gt_mask[rows], num_classes=3
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert_close(astuple(parts[0] + parts[1]), astuple(whole), rtol=1e-12, atol=0)


def test_softmax_background_is_shared_out_even_where_no_object_is_possible() -> None:
    outputs, targets, anchors = make_case(NUM_CLASSES + 1)
    sure = map_outputs(outputs, lambda tensor: tensor.detach().float())
    sure = HeadOutputs(tuple(x + 200 * torch.tensor([0, 0, 0, 1]) for x in sure.cls_logits), sure.bbox_deltas)
    criterion = build(CLASS_LOSSES["softmax_ce"])
    detail = criterion.detail(sure, targets, anchors, 1.0, *make_ground_truth(), num_classes=NUM_CLASSES)
    assert all(value.isfinite().all() for value in astuple(detail))
