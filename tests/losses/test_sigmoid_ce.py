import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import sigmoid_ce_loss, sigmoid_focal_loss
from detector.losses.sigmoid_ce import sigmoid_ce_background_terms, sigmoid_ce_loss_per_anchor
from detector.structures import BACKGROUND, IGNORE
from tests.losses.sigmoid_cases import ALPHA_OF_CLASS, grad, one_hot, random_case


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.75, ALPHA_OF_CLASS])
def test_value_and_gradient_equal_torch(alpha: float | list[float] | None, dtype: torch.dtype) -> None:
    logits, labels, _ = random_case()
    logits = logits.to(dtype).requires_grad_()
    target = one_hot(labels, logits)
    weights = torch.ones_like(target)
    if alpha is not None:
        balance = torch.tensor(alpha, dtype=dtype)
        weights = target * balance + (1 - target) * (1 - balance)
    for actual, rows in zip(
        sigmoid_ce_loss(logits, labels, alpha=alpha), (labels >= 0, labels == BACKGROUND), strict=True
    ):
        reference = F.binary_cross_entropy_with_logits(logits, target, weight=weights, reduction="none")
        expected = reference[rows].sum()
        assert_close(actual, expected)
        assert_close(grad(actual, logits), grad(expected, logits))


@pytest.mark.parametrize("alpha", [None, 0.25, ALPHA_OF_CLASS])
def test_it_is_the_focal_loss_with_gamma_zero(alpha: float | list[float] | None) -> None:
    logits, labels, _ = random_case()
    assert_close(
        sigmoid_ce_loss(logits, labels, alpha=alpha), sigmoid_focal_loss(logits, labels, alpha=alpha, gamma=0.0)
    )


def test_nothing_is_weighed_by_default() -> None:
    logits, labels, _ = random_case()
    halves = sigmoid_ce_loss(logits, labels, alpha=0.5)
    assert_close(sigmoid_ce_loss(logits, labels), (2 * halves[0], 2 * halves[1]))


def test_at_logits_of_a_hundred_the_loss_is_zero_or_linear() -> None:
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], requires_grad=True)
    loss = sigmoid_ce_loss_per_anchor(logits, torch.tensor([0, 0, BACKGROUND, BACKGROUND]))
    assert_close(loss, torch.tensor([0.0, 100.0, 100.0, 0.0]))
    assert_close(grad(loss.sum(), logits), torch.tensor([[0.0], [-1.0], [1.0], [0.0]]))


def test_ignored_anchors_get_no_gradient_even_at_infinite_logits() -> None:
    logits = torch.tensor([[float("inf"), float("-inf")], [1.0, 2.0]], requires_grad=True)
    foreground, background = sigmoid_ce_loss(logits, torch.tensor([IGNORE, 0]))
    gradient = grad(foreground + background, logits)
    assert_close(gradient[0], torch.zeros(2))
    assert gradient[1].ne(0).all()


def test_every_class_adds_its_softplus_to_a_background_anchor() -> None:
    logits, _, _ = random_case()
    assert_close(sigmoid_ce_background_terms(logits), F.softplus(logits))
    assert_close(sigmoid_ce_background_terms(logits, alpha=0.75), 0.25 * F.softplus(logits))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), [0.5] * 4 + [2.0]])
def test_alpha_out_of_range_is_refused(alpha: float | list[float]) -> None:
    logits, labels, _ = random_case()
    with pytest.raises(ValueError, match=r"alpha must be None or in \[0, 1\], got "):
        sigmoid_ce_loss(logits, labels, alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha must be None or in \[0, 1\], got "):
        sigmoid_ce_background_terms(logits, alpha=alpha)


@pytest.mark.parametrize("alpha", [[0.5] * 4, torch.ones(60, 5)])
def test_alpha_that_is_not_one_number_per_class_is_refused(alpha: list[float] | Tensor) -> None:
    logits, labels, _ = random_case()
    with pytest.raises(ValueError, match=r"one number per class \(K = 5\), got shape \("):
        sigmoid_ce_loss(logits, labels, alpha=alpha)
