import math

import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import complete_box_iou_loss

from detector.losses import ciou_loss, diou_loss
from tests.losses.boxes_by_hand import Pair, assert_same_value_and_gradient, by_hand, random_pairs, touching_pairs


def loss_by_hand(pair: Pair) -> float:
    alpha = pair.v / (1 - pair.iou + pair.v)
    return 1 - pair.iou + pair.distance_squared / pair.diagonal_squared + alpha * pair.v


def test_loss_equals_hand_computed_values() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 2.0]])
    targets = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 1.0]])
    # Equal aspect ratios: the distance IoU loss. Upright and flat: IoU 1 / 3, centres .5 apart in x and y, diagonal 8.
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    last = 1 - 1 / 3 + 0.5 / 8 + v * v / (1 - 1 / 3 + v)
    assert_close(ciou_loss(boxes, targets), torch.tensor([0.0, 1 - 1 / 7 + 1 / 9, last]), atol=1e-6, rtol=0)


def test_loss_equals_a_loop_over_the_pairs() -> None:
    boxes, targets = random_pairs(50)
    assert_close(ciou_loss(boxes.detach(), targets), by_hand(boxes, targets, loss_by_hand), atol=1e-7, rtol=0)


def test_value_and_gradient_equal_torchvision() -> None:
    boxes, targets = random_pairs(200, torch.float32)
    assert (ciou_loss(boxes, targets) > 1).any()  # also boxes that do not overlap
    assert_same_value_and_gradient(ciou_loss, complete_box_iou_loss, boxes, targets)


def test_value_and_gradient_of_touching_boxes_equal_torchvision() -> None:
    assert_same_value_and_gradient(ciou_loss, complete_box_iou_loss, *touching_pairs())


def test_gradient_is_that_of_a_constant_alpha() -> None:
    boxes, targets = random_pairs(10)
    pairs = by_hand(boxes, targets, lambda pair: pair.v / (1 - pair.iou + pair.v))

    def with_constant_alpha(x: Tensor) -> Tensor:
        (width, height), (target_width, target_height) = (b.unbind(1) for b in (x[:, 2:] - x[:, :2], sides))
        v = 4 / math.pi**2 * ((target_width / target_height).atan() - (width / height).atan()).square()
        return diou_loss(x, targets) + pairs * v

    sides = targets[:, 2:] - targets[:, :2]
    assert torch.autograd.gradcheck(with_constant_alpha, boxes)
    (gradient,) = torch.autograd.grad(ciou_loss(boxes, targets).sum(), boxes)
    (expected,) = torch.autograd.grad(with_constant_alpha(boxes).sum(), boxes)
    assert_close(gradient, expected, rtol=1e-6, atol=1e-8)


def test_boxes_of_one_aspect_ratio_have_the_distance_iou_loss() -> None:
    boxes, targets = torch.tensor([[0.0, 0.0, 8.0, 4.0]]), torch.tensor([[3.0, 1.0, 7.0, 3.0]])
    assert_close(ciou_loss(boxes, targets), diou_loss(boxes, targets))


def test_the_penalty_turns_an_upright_box_towards_a_flat_target() -> None:
    boxes = torch.tensor([[40.0, 20.0, 60.0, 80.0]], requires_grad=True)
    targets = torch.tensor([[20.0, 40.0, 80.0, 60.0]])  # the same centre
    penalty = ciou_loss(boxes, targets) - diou_loss(boxes, targets)
    (gradient,) = torch.autograd.grad(penalty.sum(), boxes)
    width_gradient, height_gradient = (gradient[0, 2:] - gradient[0, :2]).tolist()
    assert width_gradient < 0 < height_gradient
