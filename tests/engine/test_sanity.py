"""The first class loss by theory: against the closed form, against PyTorch's losses, and in real runs of every loss."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from detector.config import ClsLossConfig
from detector.criterion import Criterion, build_class_loss, sigmoid_focal_class_loss
from detector.engine.sanity import (
    InitialLoss,
    check_first_loss,
    check_prior,
    expected_initial_cls_loss,
)
from detector.engine.train import train
from detector.models.heads import initial_cls_bias
from detector.structures import BACKGROUND, AnchorTargets
from tests.engine.tiny import tiny_config

K = 3
ANCHORS_PER_LEVEL = (40, 12)
R = sum(ANCHORS_PER_LEVEL)
PRIOR = 0.01


def make_targets() -> AnchorTargets:
    """Targets of three images: with objects, with nothing but background, and with ignored anchors too."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-2, K, (3, R), generator=generator)
    labels[0] = torch.where(labels[0] == -2, 1, labels[0])
    labels[1] = BACKGROUND
    return AnchorTargets(
        target_labels=labels,
        matched_idxs=torch.zeros_like(labels),
        matched_boxes=torch.tensor([0.0, 0.0, 10.0, 10.0]).expand(3, R, 4),
        num_unmatched_gt=torch.zeros(3, dtype=torch.int64),
    )


def expected(criterion: Criterion, normalizer: Tensor, *, prior: float = PRIOR) -> Tensor:
    bias = initial_cls_bias(K, prior, criterion.class_loss.activation)
    anchors = torch.tensor([1.0, 1.0, 11.0, 11.0]).expand(R, 4)
    return expected_initial_cls_loss(
        criterion, make_targets(), anchors, normalizer, anchors_per_level=ANCHORS_PER_LEVEL, cls_bias=bias
    )


def closed_form(normalizer: Tensor, *, prior: float, alpha: float | None, gamma: float) -> float:
    """Focal loss of a network whose every score is the prior pi.

    With T = alpha (1 - pi)^gamma (-log pi) for an anchor's own class and B = (1 - alpha) pi^gamma (-log(1 - pi)) for
    every other term it is (F (T + (K - 1) B) + G K B) / normaliser for F foreground and G background anchors.
    """
    own = (1.0 if alpha is None else alpha) * (1 - prior) ** gamma * -math.log(prior)
    other = (1.0 if alpha is None else 1 - alpha) * prior**gamma * -math.log(1 - prior)
    total = 0.0
    for labels, divisor in zip(make_targets().target_labels.tolist(), normalizer.expand(3).tolist(), strict=True):
        num_foreground, num_background = sum(label >= 0 for label in labels), labels.count(BACKGROUND)
        total += (num_foreground * (own + (K - 1) * other) + num_background * K * other) / divisor
    return total


@pytest.mark.parametrize("normalizer", [torch.tensor(17.0), torch.tensor([51.0, 3.0, 90.0])], ids=["batch", "image"])
@pytest.mark.parametrize(("prior", "alpha", "gamma"), [(0.01, 0.25, 2.0), (0.5, None, 0.0), (0.1, 0.75, 0.5)])
def test_the_first_focal_loss_is_the_closed_form(
    normalizer: Tensor, prior: float, alpha: float | None, gamma: float
) -> None:
    criterion = Criterion(class_loss=sigmoid_focal_class_loss(alpha=alpha, gamma=gamma))
    actual = expected(criterion, normalizer, prior=prior)
    assert float(actual) == pytest.approx(closed_form(normalizer, prior=prior, alpha=alpha, gamma=gamma), rel=1e-5)


def test_the_first_softmax_loss_is_that_of_pytorch() -> None:
    criterion = Criterion(class_loss=build_class_loss(ClsLossConfig(name="softmax_ce", alpha=None), K))
    labels = make_targets().target_labels
    targets = torch.where(labels == BACKGROUND, K, labels).where(labels >= BACKGROUND, -100).flatten()
    logits = torch.tensor([0.0] * K + [math.log(K * (1 - PRIOR) / PRIOR)]).expand(len(targets), K + 1)
    assert_close(expected(criterion, torch.tensor(7.0)), F.cross_entropy(logits, targets, reduction="sum") / 7)


def test_the_first_ohem_loss_has_the_hardest_background_of_each_image_only() -> None:
    criterion = Criterion(class_loss=build_class_loss(ClsLossConfig(name="ohem", negatives_per_positive=0.5), K))
    own, other = -math.log(PRIOR), -math.log(1 - PRIOR)
    total = 0.0
    for labels in make_targets().target_labels.tolist():
        num_foreground = sum(label >= 0 for label in labels)
        num_background = min(labels.count(BACKGROUND), num_foreground // 2)
        total += num_foreground * (own + (K - 1) * other) + num_background * K * other
    assert float(expected(criterion, torch.tensor(7.0))) == pytest.approx(total / 7, rel=1e-5)


def test_the_theory_needs_the_memory_of_one_image_and_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    call = Criterion.__call__

    def watched(self: Criterion, outputs: Any, *arguments: Any) -> Any:
        shapes.append([tuple(logits.shape) for logits in outputs.cls_logits])
        assert all(logits.untyped_storage().nbytes() == 4 * K for logits in outputs.cls_logits)
        return call(self, outputs, *arguments)

    monkeypatch.setattr(Criterion, "__call__", watched)
    assert not expected(Criterion(), torch.tensor(7.0)).requires_grad
    assert shapes == [[(1, 40, K), (1, 12, K)]] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    ["sigmoid_focal", "sigmoid_ce", "focal_star", "quality_focal", "varifocal", "ohem", "softmax_ce", "softmax_focal"],
)
def test_the_first_loss_of_a_run_is_what_theory_gives_for_every_class_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    activation = "softmax" if loss.startswith("softmax") else "sigmoid"
    options = ("schedule.max_steps=1", "eval.every=2", f"loss.cls.name={loss}", f"model.head.activation={activation}")
    train(*tiny_config(tmp_path, *options))
    printed = capsys.readouterr().out
    assert "as it should be" in printed
    assert "warning" not in printed


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_fresh_head_with_the_prior_is_fine(activation: Any) -> None:
    bias = initial_cls_bias(80, 0.01, activation).repeat(9)
    assert check_prior(bias.requires_grad_(), num_classes=80, prior=0.01, activation=activation) is None
    assert check_prior(bias + 0.05, num_classes=80, prior=0.01, activation=activation) is None


@pytest.mark.parametrize(
    ("activation", "score"),
    [("sigmoid", "0.5"), ("softmax", "0.75")],  # softmax over K + 1 = 4 equal logits
)
@pytest.mark.parametrize("is_absent", [False, True])
def test_a_head_without_the_prior_is_named_with_its_score(activation: Any, score: str, is_absent: bool) -> None:
    bias = None if is_absent else torch.zeros(9 * (K + (activation == "softmax")))
    finding = check_prior(bias, num_classes=K, prior=0.01, activation=activation)
    assert finding is not None
    assert finding.name == "prior"
    assert "the prior is not on the class head" in finding.text
    assert f"starts with a score of {score} instead of model.head.prior = 0.01" in finding.text
    assert "drowns the objects" in finding.text
    assert "initial_cls_bias" in finding.text


def test_a_prior_on_some_anchors_of_the_cell_only_is_no_prior() -> None:
    bias = initial_cls_bias(K, 0.01, "sigmoid").repeat(9)
    bias[-K:] = 0.0
    assert check_prior(bias, num_classes=K, prior=0.01, activation="sigmoid") is not None


def test_a_prior_that_is_too_low_is_named_otherwise() -> None:
    finding = check_prior(torch.full((9 * K,), -9.0), num_classes=K, prior=0.01, activation="sigmoid")
    assert finding is not None
    assert "score of 0.00012 instead of model.head.prior = 0.01, and objects start too low" in finding.text


def test_a_background_that_is_not_last_is_no_prior() -> None:
    bias = initial_cls_bias(K, 0.01, "softmax").flip(0).repeat(9)
    assert check_prior(bias, num_classes=K, prior=0.01, activation="softmax") is not None


@pytest.mark.parametrize(
    ("measured", "cause"),
    [
        (math.nan, "outputs are not finite"),
        (math.inf, "outputs are not finite"),
        (3.0, "images that are not normalised"),
        (0.001, "divided by too much"),
    ],
)
def test_an_implausible_first_loss_has_a_likely_cause(measured: float, cause: str) -> None:
    finding = check_first_loss(InitialLoss(expected=1.13, measured=measured))
    assert finding is not None
    assert finding.name == "first_loss"
    assert finding.text.startswith(f"the first class loss is {measured:.4g}, theory gives 1.13: ")
    assert cause in finding.text


def test_a_first_loss_within_the_spread_of_random_weights_is_fine() -> None:
    assert check_first_loss(InitialLoss(expected=1.13, measured=1.2)) is None
