import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import generalized_box_iou_loss

from detector.losses import giou_loss
from tests.helpers import random_boxes


def test_loss_equals_hand_computed_values() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    # The same boxes: 1 - 1. IoU 1 / 7, hull 9, union 7: 1 - (1 / 7 - 2 / 9). Apart: IoU 0, hull 3, union 2: 1 + 1 / 3.
    assert_close(giou_loss(boxes, targets), torch.tensor([0.0, 1 - 1 / 7 + 2 / 9, 4 / 3]), atol=1e-6, rtol=0)


def test_loss_equals_a_loop_over_the_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (random_boxes(50, generator).double() for _ in range(2))
    expected = []
    for (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) in zip(boxes.tolist(), targets.tolist(), strict=True):
        common = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
        union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - common
        hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
        expected.append(1 - common / union + (hull - union) / hull)
    assert_close(giou_loss(boxes, targets), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_loss_and_gradient_equal_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (random_boxes(200, generator) for _ in range(2))
    boxes.requires_grad_()
    actual, expected = giou_loss(boxes, targets), generalized_box_iou_loss(boxes, targets)
    assert (expected > 1).any()  # also boxes that do not overlap
    assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    (gradient,), (expected_gradient,) = (torch.autograd.grad(loss.sum(), boxes) for loss in (actual, expected))
    assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_gradcheck_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (random_boxes(10, generator).double() for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, targets), boxes.requires_grad_())


def test_leading_dimensions_are_kept() -> None:
    boxes = random_boxes(6, torch.Generator().manual_seed(0)).view(2, 3, 4)
    assert giou_loss(boxes, boxes).shape == (2, 3)
    assert giou_loss(torch.zeros(2, 0, 4), torch.zeros(2, 0, 4)).shape == (2, 0)


def test_boxes_without_area_give_finite_values_and_gradients() -> None:
    boxes = torch.zeros(2, 4, requires_grad=True)
    loss = giou_loss(boxes, torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 2.0, 2.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0.0, 0.0, 512.0, 512.0]], dtype=dtype)  # the area overflows float16
    loss = giou_loss(boxes, torch.tensor([[0.0, 0.0, 512.0, 256.0]]))
    assert loss.dtype == torch.float32
    assert_close(loss, torch.tensor([0.5]))


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes differ: \(3, 4\) and \(2, 4\)"):
        giou_loss(torch.zeros(3, 4), torch.zeros(2, 4))
