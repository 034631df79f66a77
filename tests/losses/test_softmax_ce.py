import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import softmax_ce_loss

REDUCTIONS: tuple[Literal["none", "mean", "sum"], ...] = ("none", "mean", "sum")
WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.5)


def random_case(num_targets: int = 60, num_classes: int = 5, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Float64 logits [R, C] with gradient and targets [R], some of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_targets, num_classes, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(num_classes, (num_targets,), generator=generator)
    ignored = torch.rand(num_targets, generator=generator) < 0.2
    return logits.requires_grad_(), torch.where(ignored, ignore_index, targets)


def assert_same_value_and_gradient(actual: Tensor, expected: Tensor, logits: Tensor) -> None:
    assert_close(actual, expected)
    weight = torch.linspace(0.5, 1.5, actual.numel(), dtype=actual.dtype).view(actual.shape)
    assert_close(*(torch.autograd.grad((loss * weight).sum(), logits)[0] for loss in (actual, expected)))


@pytest.mark.parametrize("ignore_index", [-100, 2, 255])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_value_and_gradient_equal_torch(
    reduction: Literal["none", "mean", "sum"], weights: tuple[float, ...] | None, ignore_index: int
) -> None:
    logits, targets = random_case(ignore_index=ignore_index)
    actual = softmax_ce_loss(logits, targets, class_weights=weights, reduction=reduction, ignore_index=ignore_index)
    as_tensor = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, targets, as_tensor, reduction=reduction, ignore_index=ignore_index)
    assert_same_value_and_gradient(actual, expected, logits)
    if as_tensor is not None:
        given_as_tensor = softmax_ce_loss(
            logits, targets, class_weights=as_tensor.float(), reduction=reduction, ignore_index=ignore_index
        )
        assert_close(given_as_tensor, actual)


def test_loss_equals_a_loop_over_the_targets() -> None:
    logits, targets = random_case()
    losses, weights = [], []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        weight = 0.0 if target == -100 else WEIGHTS[target]
        p_t = math.exp(row[target]) / sum(math.exp(x) for x in row) if target >= 0 else 1.0
        losses.append(-weight * math.log(p_t))
        weights.append(weight)
    each = softmax_ce_loss(logits, targets, class_weights=WEIGHTS, reduction="none")
    assert_close(each, torch.tensor(losses, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    mean = softmax_ce_loss(logits, targets, class_weights=WEIGHTS)
    assert_close(mean.item(), sum(losses) / sum(weights), rtol=1e-10, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_gradcheck_in_float64(weights: tuple[float, ...] | None) -> None:
    logits, targets = random_case(num_targets=8)
    assert torch.autograd.gradcheck(lambda x: softmax_ce_loss(x, targets, class_weights=weights), logits)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_one_weight_per_class_does_not_broadcast_where_there_are_as_many_targets(num_classes: int) -> None:
    logits, _ = random_case(num_classes, num_classes)
    targets = torch.arange(num_classes).flip(0)
    weights = WEIGHTS[:num_classes]
    loss = softmax_ce_loss(logits, targets, class_weights=weights, reduction="none")
    expected = [w * softmax_ce_loss(x, t) for w, x, t in zip(reversed(weights), logits, targets, strict=True)]
    assert_close(loss, torch.stack(expected))


def test_extreme_logits_give_the_exact_loss_and_gradient() -> None:
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss = softmax_ce_loss(logits, torch.tensor([0, 0]), reduction="none")
    assert_close(loss, torch.tensor([0.0, 200.0]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert_close(gradient, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0)])
def test_nothing_but_ignored_targets_is_zero_without_gradient(
    reduction: Literal["none", "mean", "sum"], weights: tuple[float, ...] | None
) -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = softmax_ce_loss(logits, torch.full((4,), -100), class_weights=weights, reduction=reduction)
    assert_close(loss, torch.zeros_like(loss))
    assert torch.count_nonzero(torch.autograd.grad(loss.sum(), logits)[0]) == 0


def test_targets_of_classes_without_weight_only_have_mean_zero() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = softmax_ce_loss(logits, torch.ones(4, dtype=torch.int64), class_weights=(1.0, 0.0, 1.0))
    assert loss == 0
    assert torch.count_nonzero(torch.autograd.grad(loss, logits)[0]) == 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_targets_get_no_gradient_from_logits_that_are_not_finite(
    reduction: Literal["none", "mean", "sum"],
) -> None:
    logits = torch.tensor([[torch.nan, 0.0], [torch.inf, -torch.inf], [1.0, 0.0]], requires_grad=True)
    loss = softmax_ce_loss(logits, torch.tensor([-100, -100, 1]), reduction=reduction)
    assert loss.isfinite().all()
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.count_nonzero(gradient[:2]) == 0
    assert gradient[2].isfinite().all()
    assert gradient[2].ne(0).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_empty_inputs_give_zero_and_an_empty_gradient(
    shape: tuple[int, ...], reduction: Literal["none", "mean", "sum"]
) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    loss = softmax_ce_loss(logits, torch.zeros(shape[:-1], dtype=torch.int64), reduction=reduction)
    assert loss.shape == (shape[:-1] if reduction == "none" else ())
    assert loss.sum() == 0
    assert torch.autograd.grad(loss.sum(), logits)[0].shape == shape


def test_leading_dimensions_are_kept() -> None:
    logits, targets = random_case()
    each = softmax_ce_loss(logits, targets, reduction="none")
    assert_close(softmax_ce_loss(logits.view(3, 4, 5, 5), targets.view(3, 4, 5), reduction="none"), each.view(3, 4, 5))
    assert_close(softmax_ce_loss(logits[0], targets[0]), each[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, targets = random_case()
    half = logits.detach().to(dtype).requires_grad_()
    whole = half.detach().float().requires_grad_()
    actual, expected = (softmax_ce_loss(x, targets, class_weights=WEIGHTS) for x in (half, whole))
    assert actual.dtype == torch.float32
    assert_close(actual, expected, atol=0, rtol=0)
    gradient = torch.autograd.grad(actual, half)[0]
    assert_close(gradient, torch.autograd.grad(expected, whole)[0].to(dtype), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_targets_may_be_any_integers(dtype: torch.dtype) -> None:
    logits, targets = random_case(ignore_index=255)
    expected = softmax_ce_loss(logits, targets, ignore_index=255)
    assert_close(softmax_ce_loss(logits, targets.to(dtype), ignore_index=255), expected)


def test_minus_100_does_not_become_a_class_of_small_integers() -> None:
    loss = softmax_ce_loss(torch.zeros(1, 200), torch.tensor([156], dtype=torch.uint8))  # -100 modulo 256
    assert_close(loss, torch.tensor(math.log(200)))


def test_nothing_is_read_from_the_device() -> None:
    logits = torch.zeros(4, 3, device="meta", requires_grad=True)  # tensors without data: to read one is an error
    targets = torch.zeros(4, dtype=torch.int64, device="meta")
    softmax_ce_loss(logits, targets, class_weights=(1.0, 2.0, 3.0)).backward()
    assert logits.grad is not None


@pytest.mark.parametrize(
    ("weights", "shape"),
    [((1.0, 2.0), r"\(2,\)"), (torch.ones(3, 1), r"\(3, 1\)"), (torch.ones(4), r"\(4,\)"), (torch.ones(()), r"\(\)")],
)
def test_weights_that_are_not_one_per_class_are_refused(weights: tuple[float, ...] | Tensor, shape: str) -> None:
    with pytest.raises(ValueError, match=rf"class_weights must be one number per class \(C = 3\), got shape {shape}"):
        softmax_ce_loss(torch.zeros(2, 3), torch.tensor([0, 1]), class_weights=weights)


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_negative_weights_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"class_weights must be >= 0, got \[1.0, {weight}\]"):
        softmax_ce_loss(torch.zeros(1, 2), torch.tensor([0]), class_weights=[1.0, weight])
