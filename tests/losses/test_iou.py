import torch
from torch.testing import assert_close
from torchvision.ops import box_iou

from detector.losses import iou_loss
from tests.losses.boxes_by_hand import by_hand, random_pairs, touching_pairs


def test_loss_equals_hand_computed_values() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    # The same boxes; 1 of 4 + 4 - 1; apart.
    assert_close(iou_loss(boxes, targets), torch.tensor([0.0, 1 - 1 / 7, 1.0]), atol=1e-6, rtol=0)


def test_loss_equals_a_loop_over_the_pairs() -> None:
    boxes, targets = random_pairs(50)
    expected = by_hand(boxes, targets, lambda pair: 1 - pair.iou)
    assert_close(iou_loss(boxes.detach(), targets), expected, atol=1e-8, rtol=0)


def test_loss_is_one_minus_the_iou_of_torchvision() -> None:
    boxes, targets = random_pairs(200, torch.float32)
    expected = 1 - box_iou(boxes.detach(), targets).diagonal()
    assert (expected == 1).any()
    assert (expected < 1).any()
    assert_close(iou_loss(boxes.detach(), targets), expected, rtol=1e-6, atol=1e-6)


def test_gradcheck_in_float64() -> None:
    boxes, targets = random_pairs(10)
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, targets), boxes)


def test_boxes_apart_or_only_touching_have_no_gradient() -> None:
    boxes, targets = touching_pairs()
    (gradient,) = torch.autograd.grad(iou_loss(boxes, targets).sum(), boxes)
    assert torch.equal(gradient.ne(0).any(dim=1), torch.tensor([False, False, False, True]))
    boxes, targets = random_pairs(200)
    loss = iou_loss(boxes, targets)
    (gradient,) = torch.autograd.grad(loss.sum(), boxes)
    assert torch.equal(gradient.ne(0).any(dim=1), loss < 1)
