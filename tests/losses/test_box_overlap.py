"""What holds for every loss on overlapping boxes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.losses import ciou_loss, diou_loss, giou_loss, iou_loss
from tests.losses.boxes_by_hand import random_pairs

pytestmark = pytest.mark.parametrize("loss_of", [iou_loss, giou_loss, diou_loss, ciou_loss])
BoxLoss = Callable[[Tensor, Tensor], Tensor]

BOX, POINT = [10.0, 10.0, 20.0, 40.0], [15.0, 20.0, 15.0, 20.0]
LINE, UPRIGHT_LINE = [10.0, 20.0, 30.0, 20.0], [15.0, 10.0, 15.0, 30.0]
APART, TINY = [100.0, 100.0, 120.0, 110.0], [15.0, 20.0, 15.0 + 1e-5, 20.0 + 1e-5]


def test_equal_boxes_have_no_loss_and_no_gradient(loss_of: BoxLoss) -> None:
    boxes, _ = random_pairs(20)
    loss = loss_of(boxes, boxes.detach())
    assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-7)
    loss.sum().backward()
    assert boxes.grad is not None
    assert_close(boxes.grad[:, :2] + boxes.grad[:, 2:], torch.zeros_like(boxes.grad[:, :2]), rtol=0, atol=1e-6)


def test_loss_does_not_depend_on_the_order_place_and_scale_of_the_boxes(loss_of: BoxLoss) -> None:
    boxes, targets = random_pairs(30)
    loss = loss_of(boxes, targets)
    assert_close(loss_of(targets, boxes), loss)
    assert_close(loss_of(boxes + 17, targets + 17), loss)
    assert_close(loss_of(boxes * 8, targets * 8), loss, rtol=0, atol=1e-6)


def test_a_small_step_against_the_gradient_lowers_the_loss(loss_of: BoxLoss) -> None:
    boxes, targets = random_pairs(200)
    loss = loss_of(boxes, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), boxes)
    after = loss_of(boxes.detach() - 1e-3 * gradient, targets)
    assert (after <= loss.detach()).all()
    assert (after < loss.detach())[gradient.abs().amax(dim=1) > 1e-6].all()


@pytest.mark.parametrize("box", [BOX, POINT, LINE, UPRIGHT_LINE, TINY])
@pytest.mark.parametrize("target", [BOX, POINT, LINE, UPRIGHT_LINE, TINY, APART])
def test_boxes_without_area_give_finite_values_and_gradients(
    loss_of: BoxLoss, box: list[float], target: list[float]
) -> None:
    boxes, targets = (torch.tensor([corners], requires_grad=True) for corners in (box, target))
    loss = loss_of(boxes, targets)
    loss.sum().backward()
    assert 0 <= loss.item() <= 2.5
    for gradient in (boxes.grad, targets.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(loss_of: BoxLoss, dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0.0, 0.0, 512.0, 512.0], [8.0, 16.0, 64.0, 24.0]], dtype=dtype)  # an area overflows float16
    targets = torch.tensor([[0.0, 0.0, 512.0, 256.0], [16.0, 16.0, 32.0, 64.0]], dtype=dtype)
    half = boxes.clone().requires_grad_()
    loss = loss_of(half, targets)
    assert loss.dtype == torch.float32
    assert_close(loss, loss_of(boxes.float(), targets.float()), rtol=0, atol=0)
    loss.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == dtype


def test_leading_dimensions_are_kept(loss_of: BoxLoss) -> None:
    boxes, targets = random_pairs(6)
    loss = loss_of(boxes, targets)
    assert_close(loss_of(boxes.view(2, 3, 4), targets.view(2, 3, 4)), loss.view(2, 3))
    assert_close(loss_of(boxes[0], targets[0]), loss[0])


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
def test_no_boxes_give_no_losses_and_an_empty_gradient(loss_of: BoxLoss, shape: tuple[int, ...]) -> None:
    boxes = torch.zeros(shape, requires_grad=True)
    loss = loss_of(boxes, torch.zeros(shape))
    assert loss.shape == shape[:-1]
    assert torch.autograd.grad(loss.sum(), boxes)[0].shape == shape


def test_nothing_is_read_from_the_device(loss_of: BoxLoss) -> None:
    boxes = torch.zeros(5, 4, device="meta", requires_grad=True)  # tensors without data: to read one is an error
    loss_of(boxes, torch.zeros(5, 4, device="meta")).sum().backward()
    assert boxes.grad is not None


@pytest.mark.parametrize("other", [(2, 4), (1, 4), (3, 1, 4)])
def test_different_shapes_are_refused(loss_of: BoxLoss, other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shapes differ: \(3, 4\) and \("):
        loss_of(torch.zeros(3, 4), torch.zeros(other))


@pytest.mark.parametrize("shape", [(3, 5), (4, 3), ()])
def test_boxes_without_four_corners_are_refused(loss_of: BoxLoss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"boxes must be \[..., 4\], got \("):
        loss_of(torch.zeros(shape), torch.zeros(shape))
