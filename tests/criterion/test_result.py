from dataclasses import astuple

import torch
from torch.testing import assert_close

from detector.criterion import ClassDetail, Criterion, Losses
from tests.criterion.cases import ANCHORS_PER_LEVEL, NUM_CLASSES, make_case, make_ground_truth


def test_losses_survive_being_one_tensor() -> None:
    losses = Criterion(box_weight=2.0)(*make_case(), 5.0)
    stacked = losses.stack()
    assert stacked.dtype == torch.float64
    assert stacked.shape == (5 + 5 * len(ANCHORS_PER_LEVEL),)
    assert not stacked.requires_grad
    assert_close(astuple(Losses.from_stack(stacked)), astuple(losses.detach()), rtol=0, atol=0)


def test_the_detail_survives_being_one_tensor() -> None:
    detail = Criterion().detail(*make_case(), 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
    stacked = detail.stack()
    assert stacked.dtype == torch.float64
    assert stacked.shape == (4 * NUM_CLASSES + 3,)
    assert_close(astuple(ClassDetail.from_stack(stacked, NUM_CLASSES)), astuple(detail), rtol=0, atol=0)


def test_the_sum_of_two_stacks_is_the_stack_of_the_sum() -> None:
    losses = Criterion()(*make_case(), 5.0).detach()
    detail = Criterion().detail(*make_case(), 5.0, *make_ground_truth(), num_classes=NUM_CLASSES)
    assert_close((losses + losses).stack(), losses.stack() * 2)
    assert_close((detail + detail).stack(), detail.stack() * 2)
    assert (detail + detail).num_gt == 12


def test_adding_keeps_the_graph_of_the_losses_and_detaching_cuts_it() -> None:
    losses = Criterion()(*make_case(), 5.0)
    assert (losses + losses).total.requires_grad
    assert not any(part.requires_grad for part in astuple(losses.detach()))
