import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import quality_focal_loss, sigmoid_focal_loss
from detector.losses.quality_focal import quality_focal_background_terms, quality_focal_loss_per_anchor
from detector.structures import BACKGROUND
from tests.losses.sigmoid_cases import grad, one_hot, random_case

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


def dense_reference(logits: Tensor, labels: Tensor, quality: Tensor, gamma: float) -> Tensor:
    """[R] from a target for every logit and PyTorch's cross-entropy."""
    target = one_hot(labels, logits) * quality.unsqueeze(-1)
    ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()).abs().pow(gamma) * ce).sum(dim=-1)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_value_and_gradient_equal_a_target_for_every_logit(gamma: float) -> None:
    logits, labels, quality = random_case()
    logits.requires_grad_()
    reference = dense_reference(logits, labels, quality, gamma)
    for actual, rows in zip(
        quality_focal_loss(logits, labels, quality, gamma=gamma), (labels >= 0, labels == BACKGROUND), strict=True
    ):
        assert_close(actual, reference[rows].sum())
        assert_close(grad(actual, logits), grad(reference[rows].sum(), logits))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_full_quality_is_the_focal_loss_without_alpha(gamma: float) -> None:
    logits, labels, _ = random_case()
    logits.requires_grad_()
    for actual, expected in zip(
        quality_focal_loss(logits, labels, torch.ones(60), gamma=gamma),
        sigmoid_focal_loss(logits, labels, alpha=None, gamma=gamma),
        strict=True,
    ):
        assert_close(actual, expected)
        assert_close(grad(actual, logits), grad(expected, logits))


@pytest.mark.parametrize("gamma", [1.5, 2.0])
def test_the_least_loss_is_where_the_score_equals_the_quality(gamma: float) -> None:
    quality = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    logits = quality.logit().unsqueeze(1).requires_grad_()
    labels = torch.zeros(9, dtype=torch.int64)
    loss = quality_focal_loss_per_anchor(logits, labels, quality, gamma=gamma)
    assert_close(loss, torch.zeros(9, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(grad(loss.sum(), logits), torch.zeros(9, 1, dtype=torch.float64), atol=1e-6, rtol=0)
    for step in (-0.1, 0.1):
        assert (quality_focal_loss_per_anchor(logits + step, labels, quality, gamma=gamma) > loss).all()


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("logit", "quality"), [(0.0, 0.5), (200.0, 1.0), (-200.0, 0.0), (0.0, 0.50000006)])
def test_gradient_is_finite_where_score_and_quality_meet(gamma: float, logit: float, quality: float) -> None:
    logits = torch.tensor([[logit]], requires_grad=True)
    loss = quality_focal_loss_per_anchor(logits, torch.tensor([0]), torch.tensor([quality]), gamma=gamma)
    assert loss.isfinite().all()
    assert grad(loss.sum(), logits).isfinite().all()


def test_quality_is_never_differentiated() -> None:
    logits, labels, quality = random_case()
    foreground, background = quality_focal_loss(logits.requires_grad_(), labels, quality.requires_grad_())
    assert torch.autograd.grad(foreground + background, quality, allow_unused=True) == (None,)


def test_quality_of_anchors_without_an_object_does_not_matter() -> None:
    logits, labels, quality = random_case()
    logits.requires_grad_()
    expected = quality_focal_loss(logits, labels, quality)
    quality[labels < 0] = float("nan")  # the IoU of boxes that have no target may be anything
    actual = quality_focal_loss(logits, labels, quality)
    assert_close(actual, expected, rtol=0, atol=0)
    assert_close(grad(sum(actual), logits), grad(sum(expected), logits), rtol=0, atol=0)


def test_the_type_of_quality_does_not_matter() -> None:
    logits, labels, quality = random_case()
    quality = (quality * 4).round() / 4
    expected = quality_focal_loss(logits.float(), labels, quality.float())
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert_close(quality_focal_loss(logits.float(), labels, quality.to(dtype)), expected, rtol=0, atol=0)


def test_gamma_is_two_by_default() -> None:
    logits, labels, quality = random_case()
    assert_close(quality_focal_loss(logits, labels, quality), quality_focal_loss(logits, labels, quality, gamma=2.0))
    assert_close(quality_focal_background_terms(logits), quality_focal_background_terms(logits, gamma=2.0))


def test_quality_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"quality \[...\] and target_labels \[...\] do not fit: \(4, 1\) and \(4, 3\)"
    ):
        quality_focal_loss(torch.zeros(4, 3, 2), torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 1))


@pytest.mark.parametrize("gamma", [-0.5, float("nan")])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be >= 0, got {gamma}"):
        quality_focal_loss(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1), gamma=gamma)
    with pytest.raises(ValueError, match=f"gamma must be >= 0, got {gamma}"):
        quality_focal_background_terms(torch.zeros(1, 1), gamma=gamma)
