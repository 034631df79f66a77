import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from detector.criterion import Criterion, NormalizerMode, ValidationLosses, build_class_loss
from detector.structures import BACKGROUND
from tests.criterion.cases import (
    ANCHORS_PER_LEVEL,
    CLASS_LOSSES,
    MODES,
    NUM_CLASSES,
    anchors_by_hand,
    l1_by_hand,
    make_case,
    make_ground_truth,
    normalizer_by_hand,
    num_logits,
    select_images,
)

NUM_LEVELS = len(ANCHORS_PER_LEVEL)


def validate(name: str, mode: NormalizerMode, *rows: slice) -> ValidationLosses:
    config = CLASS_LOSSES[name]
    outputs, targets, anchors = make_case(num_logits(config))
    gt_labels, gt_mask = make_ground_truth()
    validation = ValidationLosses(
        Criterion(class_loss=build_class_loss(config, NUM_CLASSES)),
        mode,
        num_classes=NUM_CLASSES,
        num_levels=NUM_LEVELS,
    )
    for part in rows:
        validation.add(*select_images(outputs, targets, part), anchors, gt_labels[part], gt_mask[part])
    return validation


def by_hand(name: str, mode: NormalizerMode) -> tuple[dict[str, float], dict[str, Any]]:
    """Losses and split of the whole case."""
    config = CLASS_LOSSES[name]
    outputs, targets, anchors = make_case(num_logits(config))
    num_foreground = targets.num_foreground.tolist()
    divisors = normalizer_by_hand("image" if mode == "image" else "batch", num_foreground)
    sums = {f"{kind}_{part}": [0.0] * n for kind, n in (("level", 3), ("class", 3)) for part in ("fg", "bg")}
    counts = [[0] * NUM_LEVELS for _ in range(3)]
    class_num_foreground, p = [0] * NUM_CLASSES, [0.0, 0.0]
    for anchor in anchors_by_hand(config, outputs, targets, anchors):
        loss, divisor = anchor.loss / divisors[anchor.image], divisors[anchor.image]
        if anchor.label >= 0:
            sums["level_fg"][anchor.level] += loss
            sums["class_fg"][anchor.label] += loss
            class_num_foreground[anchor.label] += 1
            p[0] += anchor.probabilities[anchor.label] / sum(num_foreground)
        elif anchor.label == BACKGROUND:
            sums["level_bg"][anchor.level] += loss
            sums["class_bg"] = [x + term / divisor for x, term in zip(sums["class_bg"], anchor.terms, strict=True)]
            p[1] += max(anchor.probabilities)
        counts[0 if anchor.label >= 0 else 1 if anchor.label == BACKGROUND else 2][anchor.level] += 1
    fg, bg = sum(sums["level_fg"]), sum(sums["level_bg"])
    box = sum(x / d for x, d in zip(l1_by_hand(outputs, targets, anchors), divisors, strict=True))
    losses = {"loss": fg + bg + box, "loss_cls": fg + bg, "loss_box": box, "loss_cls_fg": fg, "loss_cls_bg": bg}
    return losses, {
        "fg_share": fg / (fg + bg),
        "level_loss_cls_fg": tuple(sums["level_fg"]),
        "level_loss_cls_bg": tuple(sums["level_bg"]),
        "level_num_foreground": tuple(counts[0]),
        "level_num_background": tuple(counts[1]),
        "level_num_ignored": tuple(counts[2]),
        "class_loss_cls_fg": tuple(sums["class_fg"]),
        "class_loss_cls_bg": tuple(sums["class_bg"]),
        "class_num_foreground": tuple(class_num_foreground),
        "class_num_gt": (1, 2, 3),
        "p_foreground": p[0],
        "p_background": p[1] / sum(counts[1]),
        "num_gt": 6,
        "num_unmatched_gt": 1,
    }


@pytest.mark.parametrize("name", ["sigmoid_focal", "quality_focal", "ohem", "softmax_focal"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [[slice(0, 4)], [slice(0, 1), slice(1, 4)], [slice(i, i + 1) for i in range(4)]])
def test_validation_losses_and_split_do_not_depend_on_the_batches(
    name: str, mode: NormalizerMode, rows: list[slice]
) -> None:
    validation = validate(name, mode, *rows)
    losses, split = by_hand(name, mode)
    assert_close(ValidationLosses.mean(validation.sums), losses, rtol=1e-6, atol=0)
    found = validation.split(validation.sums)
    assert list(found) == list(split)
    assert_close(found, split, rtol=1e-6, atol=1e-12)


def test_the_sums_have_no_graph() -> None:
    assert not validate("sigmoid_focal", "batch", slice(0, 4)).sums.requires_grad


def test_validation_losses_of_processes_add_up_and_one_may_have_seen_nothing() -> None:
    whole, first, rest, nothing = (
        validate("softmax_focal", "batch", *rows) for rows in ([slice(0, 4)], [slice(0, 2)], [slice(2, 4)], [])
    )
    sums = first.sums + rest.sums + nothing.sums
    assert_close(sums, whole.sums)
    assert_close(ValidationLosses.mean(sums), ValidationLosses.mean(whole.sums))
    assert_close(nothing.split(sums), whole.split(whole.sums))
    assert set(ValidationLosses.mean(nothing.sums).values()) == {0.0}
    split = nothing.split(nothing.sums)
    assert all(math.isnan(split.pop(name)) for name in ("fg_share", "p_foreground", "p_background"))
    zeros = torch.cat([torch.tensor(value).reshape(-1) for value in split.values()])
    assert (zeros == 0).all()
