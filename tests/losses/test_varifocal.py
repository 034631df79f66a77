import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import sigmoid_ce_loss, sigmoid_focal_loss, varifocal_loss
from detector.losses.varifocal import varifocal_background_terms, varifocal_loss_per_anchor
from detector.structures import BACKGROUND
from tests.losses.sigmoid_cases import grad, one_hot, random_case


def dense_reference(logits: Tensor, labels: Tensor, quality: Tensor, alpha: float, gamma: float) -> Tensor:
    """[R] from a target for every logit and PyTorch's cross-entropy, times the weights of the paper's code."""
    target = one_hot(labels, logits) * quality.unsqueeze(-1)
    weights = torch.where(target > 0, target, alpha * logits.sigmoid().pow(gamma))
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weights).sum(dim=-1)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_value_and_gradient_equal_a_target_for_every_logit(alpha: float, gamma: float) -> None:
    logits, labels, quality = random_case()
    logits.requires_grad_()
    reference = dense_reference(logits, labels, quality, alpha, gamma)
    for actual, rows in zip(
        varifocal_loss(logits, labels, quality, alpha=alpha, gamma=gamma),
        (labels >= 0, labels == BACKGROUND),
        strict=True,
    ):
        assert_close(actual, reference[rows].sum())
        assert_close(grad(actual, logits), grad(reference[rows].sum(), logits))


def test_full_quality_without_weights_is_binary_cross_entropy() -> None:
    logits, labels, _ = random_case()
    actual = varifocal_loss(logits, labels, torch.ones(60), alpha=None, gamma=0.0)
    assert_close(actual, sigmoid_ce_loss(logits, labels))


def test_background_is_weighed_as_by_the_focal_loss() -> None:
    logits, labels, quality = random_case()
    actual = varifocal_loss(logits, labels, quality, alpha=0.75, gamma=2.0)[1]
    assert_close(actual, sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0)[1])  # its background weighs 1 - .25


def test_an_object_of_no_quality_is_background() -> None:
    logits, _, _ = random_case()
    labels = torch.full((60,), 3)
    as_object = varifocal_loss(logits, labels, torch.zeros(60))[0]
    as_background = varifocal_loss(logits, torch.full((60,), BACKGROUND), torch.zeros(60))[1]
    assert_close(as_object, as_background)


def test_the_least_loss_of_an_object_is_where_the_score_equals_the_quality() -> None:
    quality = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    logits = quality.logit().unsqueeze(1).requires_grad_()
    labels = torch.zeros(9, dtype=torch.int64)
    loss = varifocal_loss_per_anchor(logits, labels, quality)
    assert_close(grad(loss.sum(), logits), torch.zeros(9, 1, dtype=torch.float64))
    for step in (-0.1, 0.1):
        assert (varifocal_loss_per_anchor(logits + step, labels, quality) > loss).all()


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_easy_objects_are_not_weighed_down(gamma: float) -> None:
    logits, labels, quality = torch.tensor([[4.0]]), torch.tensor([0]), torch.tensor([1.0])
    assert_close(varifocal_loss(logits, labels, quality, gamma=gamma)[0], F.softplus(torch.tensor(-4.0)))


def test_quality_is_never_differentiated() -> None:
    logits, labels, quality = random_case()
    foreground, background = varifocal_loss(logits.requires_grad_(), labels, quality.requires_grad_())
    assert torch.autograd.grad(foreground + background, quality, allow_unused=True) == (None,)


def test_quality_of_anchors_without_an_object_does_not_matter() -> None:
    logits, labels, quality = random_case()
    logits.requires_grad_()
    expected = varifocal_loss(logits, labels, quality)
    quality[labels < 0] = float("nan")
    actual = varifocal_loss(logits, labels, quality)
    assert_close(actual, expected, rtol=0, atol=0)
    assert_close(grad(sum(actual), logits), grad(sum(expected), logits), rtol=0, atol=0)


def test_defaults_are_those_of_the_paper() -> None:
    logits, labels, quality = random_case()
    expected = varifocal_loss(logits, labels, quality, alpha=0.75, gamma=2.0)
    assert_close(varifocal_loss(logits, labels, quality), expected, rtol=0, atol=0)
    assert_close(varifocal_background_terms(logits), varifocal_background_terms(logits, alpha=0.75, gamma=2.0))


def test_quality_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quality \[...\] and target_labels \[...\] do not fit: \(3,\) and \(4,\)"):
        varifocal_loss(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": -0.5}, "gamma must be >= 0, got -0.5"),
        ({"gamma": float("nan")}, "gamma must be >= 0, got nan"),
        ({"alpha": -0.1}, r"alpha must be None or in \[0, 1\], got -0.1"),
        ({"alpha": 1.5}, r"alpha must be None or in \[0, 1\], got 1.5"),
        ({"alpha": float("nan")}, r"alpha must be None or in \[0, 1\], got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    logits, labels, quality = random_case()
    with pytest.raises(ValueError, match=message):
        varifocal_loss(logits, labels, quality, **arguments)
    with pytest.raises(ValueError, match=message):
        varifocal_background_terms(logits, **arguments)
