import re
from typing import Literal

import pytest
import torch
from torch.testing import assert_close

from detector.config import BoxLossConfig, ClsLossConfig, LossConfig
from detector.criterion import build_class_loss, build_criterion
from detector.errors import UserError


def test_a_configuration_reaches_the_criterion() -> None:
    config = LossConfig(
        cls=ClsLossConfig(name="softmax_focal", alpha=None, gamma=0.0),
        box=BoxLossConfig(name="giou", beta=0.1, weight=2.0),
    )
    criterion = build_criterion(config, num_classes=4)
    assert (criterion.box_loss, criterion.box_beta, criterion.box_weight) == ("giou", 0.1, 2.0)
    logits, labels = torch.randn(1, 6, 5), torch.tensor([[0, 3, -1, 2, 1, -1]])
    expected = torch.nn.functional.cross_entropy(logits[0], labels[0] % 5, reduction="none")
    assert_close(criterion.class_loss.per_anchor(logits, labels, None), expected.unsqueeze(0))


@pytest.mark.parametrize("name", ["sigmoid_focal", "sigmoid_ce", "focal_star"])
def test_a_list_of_alphas_that_does_not_fit_the_classes_says_how_many_are_wanted(name: str) -> None:
    config = ClsLossConfig(name=name, alpha=(0.2, 0.3, 0.4))
    build_class_loss(config, num_classes=3)
    expected = (
        f"loss.cls.alpha: a list of 3, but the data has 2 classes; {name} takes one number for all, or one for each "
        "class"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        build_class_loss(config, num_classes=2)


@pytest.mark.parametrize("name", ["softmax_ce", "softmax_focal"])
def test_a_softmax_list_needs_a_weight_for_background(name: str) -> None:
    config = ClsLossConfig(name=name, alpha=(0.2, 3.0, 0.4))
    build_class_loss(config, num_classes=2)
    expected = (
        f"loss.cls.alpha: a list of 3, but the data has 3 classes; {name} takes one number for all objects, or 4: one "
        "for each class and, last, one for background"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        build_class_loss(config, num_classes=3)


@pytest.mark.parametrize("name", ["quality_focal", "ohem"])
def test_a_list_of_alphas_that_is_not_read_is_not_checked(name: str) -> None:
    build_class_loss(ClsLossConfig(name=name, alpha=(0.2, 0.3, 0.4)), num_classes=2)


def test_triton_where_it_cannot_compute_is_said_before_anything_is_made() -> None:
    config = LossConfig(backend="triton")
    build_criterion(config, num_classes=4)  # where it will compute is not known
    expected = (
        r"^loss\.backend: triton was asked for, but (it needs a CUDA device, found cpu|triton is not installed); "
    )
    with pytest.raises(UserError, match=expected + r"use loss\.backend=auto or eager$"):
        build_criterion(config, 4, torch.device("cpu"))


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_the_backend_of_a_cpu_computes_the_same_losses(backend: Literal["auto", "eager"]) -> None:
    criterion = build_criterion(LossConfig(backend=backend), 4, torch.device("cpu"))
    logits, labels = torch.randn(2, 6, 4), torch.tensor([[0, 3, -1, 2, -2, -1]] * 2)
    sums = criterion.class_loss.sums([logits], [labels], None, divisor=3.0)
    losses = criterion.class_loss.per_anchor(logits, labels, None)
    assert_close(sums.background[:, 0], (losses * (labels == -1)).sum(dim=1))
