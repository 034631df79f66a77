import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.testing import assert_close

from detector.losses import sigmoid_focal_loss
from detector.losses.sigmoid_focal import sigmoid_focal_background_terms, sigmoid_focal_loss_per_anchor
from detector.structures import BACKGROUND, IGNORE

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]
ALPHAS = [None, 0.0, 0.25, 1.0]


def random_case(num_anchors: int = 60, num_classes: int = 5, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Float64 logits [R, K] and labels [R] of all kinds: objects, background, ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_anchors, num_classes, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(IGNORE, num_classes, (num_anchors,), generator=generator)
    assert {IGNORE, BACKGROUND, 0, num_classes - 1} <= set(labels.tolist())
    return logits, labels


def sums_by_hand(logits: Tensor, labels: Tensor, alpha: float | None, gamma: float) -> tuple[float, float]:
    """The paper's Eq. 5, term by term."""
    foreground = background = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        for k, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            p_t = p if k == label else 1 - p
            alpha_t = 1.0 if alpha is None else alpha if k == label else 1 - alpha
            term = -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
            if label >= 0:
                foreground += term
            elif label == BACKGROUND:
                background += term
    return foreground, background


def grad(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_sums_equal_a_loop_over_the_terms(alpha: float | None, gamma: float) -> None:
    logits, labels = random_case()
    expected = sums_by_hand(logits, labels, alpha, gamma)
    actual = sigmoid_focal_loss(logits, labels, alpha=alpha, gamma=gamma)
    assert_close(torch.stack(actual), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    in_float32 = sigmoid_focal_loss(logits.float(), labels, alpha=alpha, gamma=gamma)
    assert_close(torch.stack(in_float32), torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_value_and_gradient_equal_torchvision(gamma: float) -> None:
    logits, labels = random_case()
    logits.requires_grad_()
    one_hot = F.one_hot(labels.clamp(min=0), 5).double() * (labels >= 0).unsqueeze(-1)
    reference = torchvision.ops.sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=gamma)
    for actual, rows in zip(
        sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=gamma), (labels >= 0, labels == BACKGROUND), strict=True
    ):
        expected = reference[rows].sum()
        assert_close(actual, expected, rtol=1e-10, atol=0)
        assert_close(grad(actual, logits), grad(expected, logits))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gamma_zero_without_alpha_is_binary_cross_entropy(dtype: torch.dtype) -> None:
    logits, labels = random_case()
    labels[labels == IGNORE] = BACKGROUND
    logits = logits.to(dtype).requires_grad_()
    one_hot = F.one_hot(labels.clamp(min=0), 5) * (labels >= 0).unsqueeze(-1)
    expected = F.binary_cross_entropy_with_logits(logits, one_hot.to(dtype), reduction="sum")
    actual = sum(sigmoid_focal_loss(logits, labels, alpha=None, gamma=0.0))
    assert isinstance(actual, Tensor)
    assert_close(actual, expected)
    assert_close(grad(actual, logits), grad(expected, logits))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_gradcheck_in_float64(alpha: float | None, gamma: float) -> None:
    logits, labels = random_case(num_anchors=20)
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, labels, alpha=alpha, gamma=gamma), logits.requires_grad_()
    )


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("magnitude", [100.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_finite_values_and_gradients(gamma: float, magnitude: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([[magnitude, -magnitude], [-magnitude, magnitude]] * 2, dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 0, BACKGROUND, IGNORE])
    per_anchor = sigmoid_focal_loss_per_anchor(logits, labels, alpha=0.25, gamma=gamma)
    assert per_anchor.isfinite().all()
    assert grad(per_anchor.sum(), logits).isfinite().all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_at_logits_of_a_hundred_the_loss_is_zero_or_linear(gamma: float) -> None:
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], requires_grad=True)
    labels = torch.tensor([0, 0, BACKGROUND, BACKGROUND])
    loss = sigmoid_focal_loss_per_anchor(logits, labels, alpha=0.25, gamma=gamma)
    # Right: nothing. Wrong: (1 - p_t)^gamma = 1 and -log p_t = 100, with slope alpha_t.
    assert_close(loss, torch.tensor([0.0, 25.0, 75.0, 0.0]), atol=1e-30, rtol=1e-6)
    assert_close(grad(loss.sum(), logits), torch.tensor([[0.0], [-0.25], [0.75], [0.0]]), atol=1e-30, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_easy_terms_are_weighed_down_by_their_error_to_the_power_of_gamma(gamma: float) -> None:
    logits = torch.tensor([[4.0]], dtype=torch.float64)
    label = torch.tensor([0])
    cross_entropy = sigmoid_focal_loss(logits, label, alpha=None, gamma=0.0)[0]
    focal = sigmoid_focal_loss(logits, label, alpha=None, gamma=gamma)[0]
    assert_close(focal / cross_entropy, (1 - logits.sigmoid()).pow(gamma).squeeze())


def test_ignored_anchors_count_nowhere_and_get_no_gradient() -> None:
    logits, labels = random_case()
    logits.requires_grad_()
    foreground, background = sigmoid_focal_loss(logits, labels)
    gradient = grad(foreground + background, logits)
    assert torch.count_nonzero(gradient[labels == IGNORE]) == 0
    assert gradient[labels != IGNORE].ne(0).all()
    kept = labels != IGNORE
    assert_close(sigmoid_focal_loss(logits[kept], labels[kept]), (foreground, background))


def test_each_sum_has_gradient_only_at_its_own_anchors() -> None:
    logits, labels = random_case()
    logits.requires_grad_()
    foreground, background = sigmoid_focal_loss(logits, labels)
    assert torch.equal(grad(foreground, logits).ne(0).any(1), labels >= 0)
    assert torch.equal(grad(background, logits).ne(0).any(1), labels == BACKGROUND)


def test_other_negative_labels_are_ignored_too() -> None:
    logits, labels = random_case()
    assert_close(
        sigmoid_focal_loss(logits, torch.where(labels == IGNORE, -7, labels)), sigmoid_focal_loss(logits, labels)
    )


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_empty_inputs_give_zero_and_an_empty_gradient(shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    foreground, background = sigmoid_focal_loss(logits, torch.zeros(shape[:-1], dtype=torch.int64))
    assert foreground == background == 0
    assert grad(foreground + background, logits).shape == shape


@pytest.mark.parametrize(("label", "foreground_is_zero"), [(BACKGROUND, True), (IGNORE, True), (1, False)])
def test_anchors_of_one_kind_only(label: int, foreground_is_zero: bool) -> None:
    logits = torch.full((4, 3), -2.0, requires_grad=True)
    foreground, background = sigmoid_focal_loss(logits, torch.full((4,), label))
    assert (foreground == 0) == foreground_is_zero
    assert (background == 0) == (label != BACKGROUND)
    assert grad(foreground + background, logits).ne(0).all() == (label != IGNORE)


def test_leading_dimensions_do_not_matter() -> None:
    logits, labels = random_case()
    expected = sigmoid_focal_loss(logits, labels)
    assert_close(sigmoid_focal_loss(logits.view(3, 4, 5, 5), labels.view(3, 4, 5)), expected)
    assert_close(sigmoid_focal_loss(logits[0], labels[0]), sigmoid_focal_loss(logits[:1], labels[:1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = random_case()
    half = logits.to(dtype).requires_grad_()
    whole = half.detach().float().requires_grad_()
    actual, expected = sigmoid_focal_loss(half, labels), sigmoid_focal_loss(whole, labels)
    assert actual[0].dtype == torch.float32
    assert_close(actual, expected, atol=0, rtol=0)
    gradient = grad(actual[0] + actual[1], half)
    assert gradient.dtype == dtype
    assert_close(gradient, grad(expected[0] + expected[1], whole).to(dtype), atol=0, rtol=0)


def test_defaults_are_those_of_the_paper() -> None:
    logits, labels = random_case()
    assert_close(sigmoid_focal_loss(logits, labels), sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0))


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 1)])
def test_labels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"do not fit: \(4, 3, 2\) and \("):
        sigmoid_focal_loss(torch.zeros(4, 3, 2), torch.zeros(shape, dtype=torch.int64))


def test_logits_without_a_class_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match=r"do not fit: \(\) and \(\)"):
        sigmoid_focal_loss(torch.tensor(1.0), torch.tensor(1))


def test_one_hot_like_float_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must hold integers \(class indices\), got torch.float32"):
        sigmoid_focal_loss(torch.zeros(4, 2), torch.zeros(4))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be None or in \[0, 1\], got {alpha}"):
        sigmoid_focal_loss(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), alpha=alpha)


@pytest.mark.parametrize("gamma", [-0.5, float("nan")])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be >= 0, got {gamma}"):
        sigmoid_focal_loss(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), gamma=gamma)


@pytest.mark.parametrize(("p_t", "times"), [(0.9, 100.0), (0.968, 976.6)])
def test_at_gamma_two_easy_examples_lose_the_papers_factors(p_t: float, times: float) -> None:
    # Lin et al. 2017, Sec. 3.2: 100 times lower than cross-entropy at .9, about 1000 times at .968.
    for label, logit in ((0, math.log(p_t / (1 - p_t))), (BACKGROUND, -math.log(p_t / (1 - p_t)))):
        logits, labels = torch.tensor([[logit]], dtype=torch.float64), torch.tensor([label])
        cross_entropy, focal = (
            sum(sigmoid_focal_loss(logits, labels, alpha=None, gamma=gamma)) for gamma in (0.0, 2.0)
        )
        assert float(cross_entropy / focal) == pytest.approx(times, rel=1e-4)


def test_at_gamma_two_hard_examples_lose_at_most_a_factor_of_four() -> None:
    logits = torch.linspace(-20, 0, 101, dtype=torch.float64).unsqueeze(1)  # p_t <= .5
    labels = torch.zeros(101, dtype=torch.int64)
    cross_entropy, focal = (
        sigmoid_focal_loss_per_anchor(logits, labels, alpha=None, gamma=gamma) for gamma in (0.0, 2.0)
    )
    factor = cross_entropy / focal
    assert (factor > 1).all()  # but they lose something too
    assert_close(factor.max(), torch.tensor(4.0, dtype=torch.float64))
    assert factor.argmax() == 100


def test_one_alpha_for_all_classes_is_that_alpha_of_each() -> None:
    logits, labels = random_case()
    expected = sigmoid_focal_loss(logits, labels, alpha=0.25)
    for alpha in ([0.25] * 5, (0.25,) * 5, torch.full((5,), 0.25), torch.full((5,), 0.25, dtype=torch.float16)):
        assert_close(sigmoid_focal_loss(logits, labels, alpha=alpha), expected)
        assert_close(sigmoid_focal_background_terms(logits, alpha=alpha), sigmoid_focal_background_terms(logits))


def test_alpha_of_a_class_weighs_its_own_logit_wherever_the_anchor_belongs() -> None:
    logits = torch.zeros(3, 2, dtype=torch.float64)  # every term is alpha_t / 4 * log 2
    losses = sigmoid_focal_loss_per_anchor(logits, torch.tensor([0, 1, BACKGROUND]), alpha=[0.1, 0.7])
    # Class 0: .1 + (1 - .7); class 1: (1 - .1) + .7; background: (1 - .1) + (1 - .7).
    assert_close(losses, torch.tensor([0.4, 1.6, 1.2], dtype=torch.float64) / 4 * math.log(2))


def test_alpha_of_the_classes_is_never_differentiated() -> None:
    logits, labels = random_case()
    alpha = torch.full((5,), 0.25, requires_grad=True)
    foreground, background = sigmoid_focal_loss(logits.requires_grad_(), labels, alpha=alpha)
    assert torch.autograd.grad(foreground + background, alpha, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    ("alpha", "shape"),
    [([0.25] * 4, r"\(4,\)"), ([0.25], r"\(1,\)"), (torch.tensor(0.25), r"\(\)"), (torch.ones(5, 1), r"\(5, 1\)")],
)
def test_alpha_that_is_not_one_number_per_class_is_refused(alpha: Tensor | list[float], shape: str) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be one number per class \(K = 5\), got shape {shape}"):
        sigmoid_focal_loss(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), alpha=alpha)


@pytest.mark.parametrize("alpha", [[0.5, -0.1], (1.5, 0.5), torch.tensor([0.5, float("nan")])])
def test_an_alpha_of_a_class_out_of_range_is_refused(alpha: Tensor | list[float]) -> None:
    with pytest.raises(ValueError, match=r"alpha must be None or in \[0, 1\], got .*(-0.1|1.5|nan)"):
        sigmoid_focal_background_terms(torch.zeros(2, 2), alpha=alpha)


def test_a_classifier_of_images_may_use_it() -> None:
    # Three images, two classes, the last image shows neither: [N, K] and [N] are all that it takes.
    logits = torch.tensor([[2.0, -1.0], [-3.0, 0.5], [-1.0, -2.0]], requires_grad=True)
    labels = torch.tensor([0, 1, BACKGROUND])
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    foreground, background = sigmoid_focal_loss(logits, labels)
    expected = torchvision.ops.sigmoid_focal_loss(logits, target, alpha=0.25, gamma=2.0, reduction="sum")
    assert_close(foreground + background, expected)
    assert_close(grad(foreground + background, logits), grad(expected, logits))
