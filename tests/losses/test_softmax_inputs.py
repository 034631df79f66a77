"""What both softmax losses refuse, with the same words."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detector.losses import softmax_ce_loss, softmax_focal_loss

SoftmaxLoss = Callable[..., Tensor]

pytestmark = pytest.mark.parametrize("loss", [softmax_ce_loss, softmax_focal_loss])


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 1)])
def test_targets_of_another_shape_are_refused(loss: SoftmaxLoss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"do not fit: \(4, 3, 2\) and \("):
        loss(torch.zeros(4, 3, 2), torch.zeros(shape, dtype=torch.int64))


def test_logits_without_a_class_dimension_are_refused(loss: SoftmaxLoss) -> None:
    with pytest.raises(ValueError, match=r"do not fit: \(\) and \(\)"):
        loss(torch.tensor(1.0), torch.tensor(1))


@pytest.mark.parametrize("num_classes", [0, 1])
def test_a_softmax_over_fewer_than_two_classes_is_refused(loss: SoftmaxLoss, num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"must have at least 2 classes .* got {num_classes}"):
        loss(torch.zeros(4, num_classes), torch.zeros(4, dtype=torch.int64))


def test_targets_that_are_probabilities_are_refused(loss: SoftmaxLoss) -> None:
    with pytest.raises(ValueError, match=r"must hold integers \(class indices\), got torch.float32"):
        loss(torch.zeros(4, 2), torch.zeros(4))


def test_logits_that_are_integers_are_refused(loss: SoftmaxLoss) -> None:
    with pytest.raises(ValueError, match=r"logits must be floating point, got torch.int64"):
        loss(torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("target", [3, -1, -2])
def test_targets_out_of_range_are_refused(loss: SoftmaxLoss, target: int) -> None:
    with pytest.raises(ValueError, match=rf"targets must be in \[0, 2\] or ignore_index = -100, got {target}"):
        loss(torch.zeros(2, 3), torch.tensor([0, target]))


def test_an_unknown_reduction_is_refused(loss: SoftmaxLoss) -> None:
    unknown: Any = "average"
    with pytest.raises(ValueError, match="reduction must be 'none', 'mean' or 'sum', got 'average'"):
        loss(torch.zeros(1, 2), torch.tensor([0]), reduction=unknown)
