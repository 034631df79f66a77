import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import sigmoid_focal_loss, softmax_focal_loss
from detector.structures import BACKGROUND

REDUCTIONS: tuple[Literal["none", "mean", "sum"], ...] = ("none", "mean", "sum")
GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]
ALPHAS = (0.5, 2.0, 0.0, 1.0, 0.25)


def random_case(num_targets: int = 60, num_classes: int = 5, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Float64 logits [R, C] with gradient and targets [R], some of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_targets, num_classes, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(num_classes, (num_targets,), generator=generator)
    ignored = torch.rand(num_targets, generator=generator) < 0.2
    return logits.requires_grad_(), torch.where(ignored, ignore_index, targets)


def grad(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


def losses_by_hand(logits: Tensor, targets: Tensor, alpha: tuple[float, ...], gamma: float) -> Tensor:
    """The formula, target by target."""
    losses = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        p_t = math.exp(row[target]) / sum(math.exp(x) for x in row) if target >= 0 else 1.0
        losses.append(-alpha[target] * (1 - p_t) ** gamma * math.log(p_t) if target >= 0 else 0.0)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("ignore_index", [-100, 2, 255])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gamma_zero_without_alpha_is_cross_entropy(
    reduction: Literal["none", "mean", "sum"], ignore_index: int
) -> None:
    logits, targets = random_case(ignore_index=ignore_index)
    losses = (
        softmax_focal_loss(logits, targets, gamma=0.0, reduction=reduction, ignore_index=ignore_index),
        F.cross_entropy(logits, targets, reduction=reduction, ignore_index=ignore_index),
    )
    assert_close(*losses)
    weight = torch.linspace(0.5, 1.5, losses[0].numel(), dtype=torch.float64).view(losses[0].shape)
    assert_close(*(grad((loss * weight).sum(), logits) for loss in losses))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_loss_equals_a_loop_over_the_targets(gamma: float) -> None:
    logits, targets = random_case()
    expected = losses_by_hand(logits, targets, ALPHAS, gamma)
    assert (expected == 0).any()
    num_kept = int((targets != -100).sum())

    def loss(x: Tensor, reduction: Literal["none", "mean", "sum"]) -> Tensor:
        return softmax_focal_loss(x, targets, alpha=ALPHAS, gamma=gamma, reduction=reduction)

    assert_close(loss(logits, "none"), expected, rtol=1e-10, atol=1e-12)
    assert_close(loss(logits, "sum"), expected.sum(), rtol=1e-10, atol=1e-12)
    assert_close(loss(logits, "mean"), expected.sum() / num_kept, rtol=1e-10, atol=1e-12)
    assert_close(loss(logits.float(), "none"), expected.float(), rtol=1e-5, atol=1e-6)


def test_alpha_is_indexed_by_the_target_class() -> None:
    logits, targets = random_case()
    plain = softmax_focal_loss(logits, targets, reduction="none")
    only_class_3 = softmax_focal_loss(logits, targets, alpha=[0, 0, 0, 1, 0], reduction="none")
    assert_close(only_class_3, torch.where(targets == 3, plain, 0.0))


@pytest.mark.parametrize("as_type", [tuple, list, torch.tensor])
def test_alpha_may_be_a_sequence_or_a_tensor(as_type: type) -> None:
    logits, targets = random_case()
    expected = losses_by_hand(logits, targets, ALPHAS, 2.0).sum()
    assert_close(softmax_focal_loss(logits, targets, alpha=as_type(ALPHAS), reduction="sum"), expected)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_one_alpha_per_class_does_not_broadcast_where_there_are_as_many_targets(num_classes: int) -> None:
    logits, _ = random_case(num_classes, num_classes)
    targets = torch.arange(num_classes).flip(0)
    alpha = (1.0, 5.0, 0.1, 3.0)[:num_classes]
    expected = losses_by_hand(logits, targets, alpha, 2.0)
    assert expected.shape == (num_classes,)
    for given in (alpha, torch.tensor(alpha)):
        assert_close(softmax_focal_loss(logits, targets, alpha=given, reduction="none"), expected)
        assert_close(softmax_focal_loss(logits, targets, alpha=given, reduction="sum"), expected.sum())
        assert_close(softmax_focal_loss(logits, targets, alpha=given), expected.sum() / num_classes)


@pytest.mark.parametrize("alpha", [0.25, 0, 3])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_alpha_for_all_merely_rescales(alpha: float, reduction: Literal["none", "mean", "sum"]) -> None:
    logits, targets = random_case()
    plain = softmax_focal_loss(logits, targets, reduction=reduction)
    scaled = softmax_focal_loss(logits, targets, alpha=alpha, reduction=reduction)
    assert_close(scaled, alpha * plain)
    assert_close(grad(scaled.sum(), logits), alpha * grad(plain.sum(), logits))


def test_alpha_is_not_divided_out_of_the_mean() -> None:
    logits, targets = random_case()
    alpha = torch.tensor(ALPHAS, dtype=torch.float64)
    ours = (softmax_focal_loss(logits, targets, alpha=alpha, gamma=0.0, reduction=r) for r in ("none", "sum", "mean"))
    each, total, mean = ours
    assert_close(each, F.cross_entropy(logits, targets, alpha, reduction="none"))
    assert_close(total, F.cross_entropy(logits, targets, alpha, reduction="sum"))
    assert_close(mean, total / (targets != -100).sum())


def test_alpha_is_not_differentiated() -> None:
    logits, targets = random_case()
    alpha = torch.tensor(ALPHAS, requires_grad=True)
    assert not softmax_focal_loss(logits.detach(), targets, alpha=alpha).requires_grad


@pytest.mark.parametrize("gamma", GAMMAS)
def test_two_classes_are_the_sigmoid_focal_loss_of_their_difference(gamma: float) -> None:
    logits, targets = random_case(num_classes=2)
    kept = targets != -100
    logits, targets = logits[kept], targets[kept]
    alpha = 0.25
    softmax = softmax_focal_loss(logits, targets, alpha=(alpha, 1 - alpha), gamma=gamma, reduction="sum")
    labels = torch.where(targets == 0, 0, BACKGROUND)
    foreground, background = sigmoid_focal_loss(logits[:, :1] - logits[:, 1:], labels, alpha=alpha, gamma=gamma)
    assert_close(softmax, foreground + background)
    assert_close(grad(softmax, logits), grad(foreground + background, logits))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, ALPHAS])
def test_gradcheck_in_float64(alpha: tuple[float, ...] | None, gamma: float) -> None:
    logits, targets = random_case(num_targets=8)
    assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, targets, alpha=alpha, gamma=gamma), logits)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_extreme_logits_give_the_exact_loss_and_gradient(gamma: float) -> None:
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss = softmax_focal_loss(logits, torch.tensor([0, 0]), gamma=gamma, reduction="none")
    # Right: nothing. Wrong: (1 - p_t)^gamma = 1 and -log p_t = 200.
    assert_close(loss, torch.tensor([0.0, 200.0]), atol=1e-30, rtol=1e-6)
    assert_close(grad(loss.sum(), logits), torch.tensor([[0.0, 0.0], [-1.0, 1.0]]), atol=1e-30, rtol=1e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_every_mixture_of_extreme_logits_is_finite(gamma: float) -> None:
    extremes = torch.tensor([-100.0, 0.0, 100.0])
    logits = torch.cartesian_prod(extremes, extremes, extremes).repeat_interleave(3, dim=0).requires_grad_()
    targets = torch.arange(3).repeat(27)
    loss = softmax_focal_loss(logits, targets, gamma=gamma, reduction="none")
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    assert grad(loss.sum(), logits).isfinite().all()
    double = softmax_focal_loss(logits.double(), targets, gamma=gamma, reduction="none")
    assert_close(loss, double.float(), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("margin", [10.0, 20.0, 30.0])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_easy_targets_keep_their_small_loss_and_slope_in_float32(margin: float, gamma: float) -> None:
    logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
    loss = softmax_focal_loss(logits, torch.tensor([0]), gamma=gamma)
    # u = 1 - p_t, which is below the step of float32 at 1; u changes with the first logit by -u (1 - u).
    u = 2 * math.exp(-margin) / (1 + 2 * math.exp(-margin))
    expected = u**gamma * -math.log1p(-u)
    slope = (gamma * u ** (gamma - 1) * -math.log1p(-u) + u**gamma / (1 - u)) * -u * (1 - u)
    # log p_t itself is only as fine as float32 allows beside a logit of 0: it is 0 below 6e-8.
    assert_close(loss.item(), expected, rtol=1e-3, atol=6e-8 * u**gamma)
    assert_close(grad(loss, logits)[0, 0].item(), slope, rtol=1e-3, atol=6e-8 * u**gamma)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_nothing_but_ignored_targets_is_zero_without_gradient(
    gamma: float, reduction: Literal["none", "mean", "sum"]
) -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = softmax_focal_loss(logits, torch.full((4,), -100), gamma=gamma, reduction=reduction)
    assert_close(loss, torch.zeros_like(loss))
    assert torch.count_nonzero(grad(loss.sum(), logits)) == 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_ignored_targets_count_nowhere(gamma: float) -> None:
    logits, targets = random_case()
    kept = targets != -100
    loss = softmax_focal_loss(logits, targets, gamma=gamma)
    assert_close(loss, softmax_focal_loss(logits[kept], targets[kept], gamma=gamma))
    assert torch.equal(grad(loss, logits).ne(0).any(dim=1), kept)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_ignored_targets_get_no_gradient_from_logits_that_are_not_finite(gamma: float) -> None:
    logits = torch.tensor([[torch.nan, 0.0], [torch.inf, -torch.inf], [1.0, 0.0]], requires_grad=True)
    loss = softmax_focal_loss(logits, torch.tensor([-100, -100, 1]), alpha=(0.3, 0.7), gamma=gamma)
    assert loss.isfinite()
    gradient = grad(loss, logits)
    assert torch.count_nonzero(gradient[:2]) == 0
    assert gradient[2].isfinite().all()
    assert gradient[2].ne(0).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_empty_inputs_give_zero_and_an_empty_gradient(
    gamma: float, reduction: Literal["none", "mean", "sum"], shape: tuple[int, ...]
) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    targets = torch.zeros(shape[:-1], dtype=torch.int64)
    loss = softmax_focal_loss(logits, targets, alpha=ALPHAS, gamma=gamma, reduction=reduction)
    assert loss.shape == (shape[:-1] if reduction == "none" else ())
    assert loss.sum() == 0
    assert grad(loss.sum(), logits).shape == shape


def test_leading_dimensions_are_kept() -> None:
    logits, targets = random_case()
    each = softmax_focal_loss(logits, targets, alpha=ALPHAS, reduction="none")
    shaped = softmax_focal_loss(logits.view(3, 4, 5, 5), targets.view(3, 4, 5), alpha=ALPHAS, reduction="none")
    assert_close(shaped, each.view(3, 4, 5))
    assert_close(softmax_focal_loss(logits[0], targets[0], alpha=ALPHAS), each[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, targets = random_case()
    half = logits.detach().to(dtype).requires_grad_()
    whole = half.detach().float().requires_grad_()
    actual, expected = (softmax_focal_loss(x, targets, alpha=ALPHAS) for x in (half, whole))
    assert actual.dtype == torch.float32
    assert_close(actual, expected, atol=0, rtol=0)
    assert_close(grad(actual, half), grad(expected, whole).to(dtype), atol=0, rtol=0)


def test_defaults_are_gamma_two_no_alpha_and_the_mean() -> None:
    logits, targets = random_case()
    expected = softmax_focal_loss(logits, targets, alpha=None, gamma=2.0, reduction="mean", ignore_index=-100)
    assert_close(softmax_focal_loss(logits, targets), expected)


@pytest.mark.parametrize("alpha", [None, 0.25, (1.0, 2.0, 3.0)])
def test_nothing_is_read_from_the_device(alpha: float | tuple[float, ...] | None) -> None:
    logits = torch.zeros(4, 3, device="meta", requires_grad=True)  # tensors without data: to read one is an error
    softmax_focal_loss(logits, torch.zeros(4, dtype=torch.int64, device="meta"), alpha=alpha).backward()
    assert logits.grad is not None


@pytest.mark.parametrize(
    ("alpha", "shape"),
    [((1.0, 2.0), r"\(2,\)"), (torch.ones(3, 1), r"\(3, 1\)"), (torch.ones(1, 3), r"\(1, 3\)"), ((), r"\(0,\)")],
)
def test_an_alpha_that_is_not_one_per_class_is_refused(alpha: tuple[float, ...] | Tensor, shape: str) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be one number per class \(C = 3\), got shape {shape}"):
        softmax_focal_loss(torch.zeros(2, 3), torch.tensor([0, 1]), alpha=alpha)


@pytest.mark.parametrize("alpha", [-0.1, float("nan")])
def test_a_negative_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be >= 0, got {alpha}"):
        softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), alpha=alpha)
    with pytest.raises(ValueError, match=rf"alpha must be >= 0, got \(1.0, {alpha}\)"):
        softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), alpha=(1.0, alpha))
    with pytest.raises(ValueError, match=r"alpha must be >= 0, got tensor\("):
        softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), alpha=torch.tensor([1.0, alpha]))


@pytest.mark.parametrize("gamma", [-0.5, float("nan")])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be >= 0, got {gamma}"):
        softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=gamma)
