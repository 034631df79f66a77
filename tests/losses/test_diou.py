import torch
from torch.testing import assert_close
from torchvision.ops import distance_box_iou_loss

from detector.losses import diou_loss, iou_loss
from tests.losses.boxes_by_hand import assert_same_value_and_gradient, by_hand, random_pairs, touching_pairs


def test_loss_equals_hand_computed_values() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    # The same boxes. Centres 1 + 1 apart (squared), diagonal 9 + 9: 1 - 1 / 7 + 2 / 18. Apart: 1 - 0 + 4 / (9 + 1).
    assert_close(diou_loss(boxes, targets), torch.tensor([0.0, 1 - 1 / 7 + 1 / 9, 1.4]), atol=1e-6, rtol=0)


def test_loss_equals_a_loop_over_the_pairs() -> None:
    boxes, targets = random_pairs(50)
    expected = by_hand(boxes, targets, lambda pair: 1 - pair.iou + pair.distance_squared / pair.diagonal_squared)
    assert_close(diou_loss(boxes.detach(), targets), expected, atol=1e-8, rtol=0)


def test_value_and_gradient_equal_torchvision() -> None:
    boxes, targets = random_pairs(200, torch.float32)
    assert (diou_loss(boxes, targets) > 1).any()  # also boxes that do not overlap
    assert_same_value_and_gradient(diou_loss, distance_box_iou_loss, boxes, targets)


def test_value_and_gradient_of_touching_boxes_equal_torchvision() -> None:
    assert_same_value_and_gradient(diou_loss, distance_box_iou_loss, *touching_pairs())


def test_gradcheck_in_float64() -> None:
    boxes, targets = random_pairs(10)
    assert torch.autograd.gradcheck(lambda x: diou_loss(x, targets), boxes)


def test_boxes_with_one_centre_have_the_iou_loss() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 4.0]])
    targets = torch.tensor([[2.0, -2.0, 6.0, 6.0]])
    assert_close(diou_loss(boxes, targets), iou_loss(boxes, targets))


def test_boxes_apart_are_pulled_towards_each_other() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    diou_loss(boxes, torch.tensor([[50.0, 70.0, 60.0, 80.0]])).sum().backward()
    assert boxes.grad is not None
    centre_gradient = boxes.grad[0, :2] + boxes.grad[0, 2:]
    assert (centre_gradient < 0).all()  # descent moves right and down
