"""What holds for every loss on sigmoids; what only one of them does is tested in its own file."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.structures import BACKGROUND, IGNORE
from tests.losses.sigmoid_cases import LOSSES, SigmoidLoss, grad, random_case, sums_by_hand

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=[loss.name for loss in LOSSES])


def nothing_but(label: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels that are all the same, and qualities of a half."""
    return torch.full(logits.shape[:-1], label), torch.full(logits.shape[:-1], 0.5)


@every_loss
def test_sums_equal_a_loop_over_the_terms(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    expected = sums_by_hand(loss, logits, labels, quality)
    actual = loss.sums(logits, *loss.targets(labels, quality))
    assert_close(torch.stack(actual), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    in_float32 = loss.sums(logits.float(), *loss.targets(labels, quality))
    assert_close(torch.stack(in_float32), torch.tensor(expected), rtol=1e-5, atol=1e-6)


@every_loss
def test_gradcheck_in_float64(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case(num_anchors=30)
    targets = loss.targets(labels, quality)
    assert torch.autograd.gradcheck(lambda x: loss.sums(x, *targets), logits.requires_grad_())


@every_loss
def test_background_terms_sum_to_the_loss_of_a_background_anchor(loss: SigmoidLoss) -> None:
    logits, _, quality = random_case()
    logits.requires_grad_()
    labels = torch.full((len(logits),), BACKGROUND)
    terms = loss.background_terms(logits)
    assert terms.shape == logits.shape
    assert (terms >= 0).all()
    anchor_loss = loss.per_anchor(logits, *loss.targets(labels, quality))
    assert_close(terms.sum(dim=-1), anchor_loss)
    assert_close(grad(terms.sum(), logits), grad(anchor_loss.sum(), logits))


@every_loss
def test_the_sums_are_those_of_the_anchors(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    targets = loss.targets(labels, quality)
    per_anchor = loss.per_anchor(logits, *targets)
    assert per_anchor.shape == labels.shape
    assert_close(loss.sums(logits, *targets), (per_anchor[labels >= 0].sum(), per_anchor[labels == BACKGROUND].sum()))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("magnitude", [100.0, 60000.0])
def test_extreme_logits_give_finite_values_and_gradients(
    loss: SigmoidLoss, magnitude: float, dtype: torch.dtype
) -> None:
    row = torch.tensor([1, -1, 1, -1, 0]) * magnitude
    logits = torch.stack([row, row, row, row, -row, -row]).to(dtype).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, BACKGROUND, IGNORE])
    quality = torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0, 0.0])
    anchor_loss = loss.per_anchor(logits, *loss.targets(labels, quality))
    assert anchor_loss.isfinite().all()
    assert (anchor_loss >= 0).all()
    assert grad(anchor_loss.sum(), logits).isfinite().all()
    assert loss.background_terms(logits).isfinite().all()


@every_loss
@pytest.mark.parametrize("logit", [100.0, -100.0, 1e30, -1e30])
def test_ignored_anchors_count_nowhere_and_get_no_gradient(loss: SigmoidLoss, logit: float) -> None:
    logits, labels, quality = random_case()
    logits[labels == IGNORE] = logit
    logits.requires_grad_()
    sums = loss.sums(logits, *loss.targets(labels, quality))
    gradient = grad(sums[0] + sums[1], logits)
    assert torch.count_nonzero(gradient[labels == IGNORE]) == 0
    assert gradient.isfinite().all()
    kept = labels != IGNORE
    assert_close(loss.sums(logits[kept], *loss.targets(labels[kept], quality[kept])), sums)


@every_loss
@pytest.mark.parametrize("logit", [float("inf"), float("-inf"), float("nan")])
def test_the_value_does_not_depend_on_ignored_logits_that_are_not_finite(loss: SigmoidLoss, logit: float) -> None:
    logits, labels, quality = random_case()
    expected = loss.sums(logits, *loss.targets(labels, quality))
    logits[labels == IGNORE] = logit
    assert_close(loss.sums(logits, *loss.targets(labels, quality)), expected, rtol=0, atol=0)


@every_loss
def test_other_negative_labels_are_ignored_too(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    others = torch.where(labels == IGNORE, -7, labels)
    expected = loss.sums(logits, *loss.targets(labels, quality))
    assert_close(loss.sums(logits, *loss.targets(others, quality)), expected)


@every_loss
def test_each_sum_has_gradient_only_at_its_own_anchors(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    logits.requires_grad_()
    foreground, background = loss.sums(logits, *loss.targets(labels, quality))
    assert torch.equal(grad(foreground, logits).ne(0).any(1), labels >= 0)
    assert torch.equal(grad(background, logits).ne(0).any(1), labels == BACKGROUND)


@every_loss
@pytest.mark.parametrize(("label", "has_foreground", "has_background"), [(BACKGROUND, 0, 1), (IGNORE, 0, 0), (3, 1, 0)])
def test_anchors_of_one_kind_only(loss: SigmoidLoss, label: int, has_foreground: bool, has_background: bool) -> None:
    logits = torch.full((4, 5), -2.0, requires_grad=True)
    foreground, background = loss.sums(logits, *loss.targets(*nothing_but(label, logits)))
    assert (foreground != 0) == has_foreground
    assert (background != 0) == has_background
    gradient = grad(foreground + background, logits)
    assert gradient.isfinite().all()
    assert gradient.ne(0).any() == (label != IGNORE)


@every_loss
@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_empty_inputs_give_zero_and_an_empty_gradient(loss: SigmoidLoss, shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    targets = loss.targets(*nothing_but(0, logits))
    foreground, background = loss.sums(logits, *targets)
    assert foreground == background == 0
    assert grad(foreground + background, logits).shape == shape
    assert loss.per_anchor(logits, *targets).shape == shape[:-1]
    assert loss.background_terms(logits).shape == shape


@every_loss
def test_leading_dimensions_do_not_matter(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    expected = loss.per_anchor(logits, *loss.targets(labels, quality))
    shaped = loss.targets(labels.view(3, 4, 5), quality.view(3, 4, 5))
    assert_close(loss.per_anchor(logits.view(3, 4, 5, 5), *shaped).flatten(), expected)
    assert_close(loss.per_anchor(logits[0], *loss.targets(labels[0], quality[0])), expected[0])


@every_loss
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_types_are_computed_in_float32(loss: SigmoidLoss, dtype: torch.dtype, rtol: float) -> None:
    logits, labels, quality = random_case()
    targets = loss.targets(labels, quality)
    half = logits.to(dtype).requires_grad_()
    whole = half.detach().float().requires_grad_()
    actual, expected = loss.sums(half, *targets), loss.sums(whole, *targets)
    assert actual[0].dtype == loss.background_terms(half).dtype == torch.float32
    assert_close(actual, expected, atol=0, rtol=0)
    gradient = grad(actual[0] + actual[1], half)
    assert gradient.dtype == dtype
    assert_close(gradient, grad(expected[0] + expected[1], whole).to(dtype), atol=0, rtol=0)
    # What is left is what the rounding of the logits did.
    assert_close(actual, loss.sums(logits.float(), *targets), atol=0, rtol=rtol)


@every_loss
@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 1)])
def test_labels_of_another_shape_are_refused(loss: SigmoidLoss, shape: tuple[int, ...]) -> None:
    targets = loss.targets(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape))
    with pytest.raises(ValueError, match=r"do not fit: \(4, 3, 5\) and \("):
        loss.sums(torch.zeros(4, 3, 5), *targets)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool])
def test_labels_of_another_type_are_refused(loss: SigmoidLoss, dtype: torch.dtype) -> None:
    targets = loss.targets(torch.zeros(4, dtype=dtype), torch.zeros(4))
    with pytest.raises(ValueError, match=rf"must hold integers \(class indices\), got {dtype}, not int64"):
        loss.sums(torch.zeros(4, 5), *targets)


@every_loss
def test_integer_logits_are_refused(loss: SigmoidLoss) -> None:
    logits = torch.zeros(4, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"cls_logits must be floating point, got torch\.int64"):
        loss.sums(logits, *loss.targets(*nothing_but(0, logits)))


@every_loss
def test_it_compiles_into_one_graph(loss: SigmoidLoss) -> None:
    logits, labels, quality = random_case()
    targets = loss.targets(labels, quality)
    torch.compiler.reset()  # or the arguments of other cases count as recompilations
    compiled = torch.compile(loss.per_anchor, fullgraph=True, backend="eager")
    assert_close(compiled(logits, *targets), loss.per_anchor(logits, *targets))
