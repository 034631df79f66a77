import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from detector.losses import smooth_l1_loss


def random_pair(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 7, 4, generator=generator, dtype=dtype) for _ in range(2))
    return first.requires_grad_(), second


def test_values_on_both_sides_of_beta() -> None:
    prediction = torch.tensor([[0.5, -1.0, 3.0, 0.0]])
    target = torch.zeros(1, 4)
    # beta = 1: 0.5 * 0.25, 1 - 0.5, 3 - 0.5, 0; beta = 0: 0.5 + 1 + 3
    assert_close(smooth_l1_loss(prediction, target, beta=1.0), torch.tensor([0.125 + 0.5 + 2.5]))
    assert_close(smooth_l1_loss(prediction, target), torch.tensor([4.5]))


@pytest.mark.parametrize("beta", [0.0, 0.11, 1.0])
def test_value_and_gradient_equal_torch(beta: float) -> None:
    prediction, target = random_pair()
    weight = torch.arange(21, dtype=torch.float64).view(3, 7)  # a gradient of its own for every box
    loss = smooth_l1_loss(prediction, target, beta=beta)
    reference = F.smooth_l1_loss(prediction, target, beta=beta, reduction="none").sum(dim=-1)
    assert_close(loss, reference)
    (gradient,) = torch.autograd.grad((loss * weight).sum(), prediction)
    (expected,) = torch.autograd.grad((reference * weight).sum(), prediction)
    assert_close(gradient, expected)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_gradcheck_in_float64(beta: float) -> None:
    prediction, target = random_pair()
    assert torch.autograd.gradcheck(lambda x: smooth_l1_loss(x, target, beta=beta), prediction)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_gradient_at_the_target_is_zero(beta: float) -> None:
    prediction = torch.ones(2, 4, requires_grad=True)
    smooth_l1_loss(prediction, torch.ones(2, 4), beta=beta).sum().backward()
    assert_close(prediction.grad, torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    prediction = torch.tensor([[300.0, 0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    loss = smooth_l1_loss(prediction, torch.tensor([[0.001, 0.0, 0.0, 0.0]]))
    assert_close(loss, torch.tensor([299.999]), atol=1e-4, rtol=0)  # float16 would round to 300
    loss.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.dtype == dtype


def test_no_boxes_give_no_losses() -> None:
    assert smooth_l1_loss(torch.zeros(2, 0, 4), torch.zeros(2, 0, 4)).shape == (2, 0)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes differ: \(3, 4\) and \(1, 4\)"):
        smooth_l1_loss(torch.zeros(3, 4), torch.zeros(1, 4))


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_negative_beta_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta must be >= 0, got {beta}"):
        smooth_l1_loss(torch.zeros(1, 4), torch.zeros(1, 4), beta=beta)
