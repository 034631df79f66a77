import torch
from torch.testing import assert_close
from torchvision.ops import generalized_box_iou_loss

from detector.losses import giou_loss
from tests.losses.boxes_by_hand import assert_same_value_and_gradient, by_hand, random_pairs, touching_pairs


def test_loss_equals_hand_computed_values() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])
    # The same boxes: 1 - 1. IoU 1 / 7, hull 9, union 7: 1 - (1 / 7 - 2 / 9). Apart: IoU 0, hull 3, union 2: 1 + 1 / 3.
    assert_close(giou_loss(boxes, targets), torch.tensor([0.0, 1 - 1 / 7 + 2 / 9, 4 / 3]), atol=1e-6, rtol=0)


def test_loss_equals_a_loop_over_the_pairs() -> None:
    boxes, targets = random_pairs(50)
    expected = by_hand(boxes, targets, lambda pair: 1 - pair.iou + (pair.hull - pair.union) / pair.hull)
    assert_close(giou_loss(boxes.detach(), targets), expected, atol=1e-8, rtol=0)


def test_value_and_gradient_equal_torchvision() -> None:
    boxes, targets = random_pairs(200, torch.float32)
    assert (giou_loss(boxes, targets) > 1).any()  # also boxes that do not overlap
    assert_same_value_and_gradient(giou_loss, generalized_box_iou_loss, boxes, targets)


def test_value_and_gradient_of_touching_boxes_equal_torchvision() -> None:
    assert_same_value_and_gradient(giou_loss, generalized_box_iou_loss, *touching_pairs())


def test_gradcheck_in_float64() -> None:
    boxes, targets = random_pairs(10)
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, targets), boxes)
