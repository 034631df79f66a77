import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from detector.losses import l1_loss


def random_pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 7, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return first.requires_grad_(), second


def test_loss_is_the_sum_of_the_four_distances() -> None:
    loss = l1_loss(
        torch.tensor([[0.5, -1.0, 3.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0]] * 2)
    )
    assert_close(loss, torch.tensor([0.5 + 2 + 2, 1.0 + 0 + 0 + 1]))


def test_value_and_gradient_equal_torch() -> None:
    prediction, target = random_pair()
    weight = torch.arange(21, dtype=torch.float64).view(3, 7)  # a gradient of its own for every box
    losses = l1_loss(prediction, target), F.l1_loss(prediction, target, reduction="none").sum(dim=-1)
    assert_close(*losses)
    assert_close(*(torch.autograd.grad((loss * weight).sum(), prediction)[0] for loss in losses))


def test_gradcheck_in_float64() -> None:
    prediction, target = random_pair()
    assert torch.autograd.gradcheck(lambda x: l1_loss(x, target), prediction)


def test_gradient_at_the_target_is_zero() -> None:
    prediction = torch.ones(2, 4, requires_grad=True)
    l1_loss(prediction, torch.ones(2, 4)).sum().backward()
    assert_close(prediction.grad, torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    prediction = torch.tensor([[300.0, 0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    loss = l1_loss(prediction, torch.tensor([[0.001, 0.0, 0.0, 0.0]]))
    assert_close(loss, torch.tensor([299.999]), atol=1e-4, rtol=0)  # float16 would round to 300
    loss.sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.dtype == dtype


def test_no_boxes_give_no_losses() -> None:
    assert l1_loss(torch.zeros(2, 0, 4), torch.zeros(2, 0, 4)).shape == (2, 0)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes differ: \(3, 4\) and \(1, 4\)"):
        l1_loss(torch.zeros(3, 4), torch.zeros(1, 4))
