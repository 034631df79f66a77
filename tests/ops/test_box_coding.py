import math

import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection._utils import BoxCoder

from detector.ops.box_coding import MAX_LOG_RATIO, decode_boxes, encode_boxes
from tests.helpers import random_boxes

TORCHVISION = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))


def boxes_and_anchors(n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return random_boxes(n, generator), random_boxes(n, generator)


def test_offsets_equal_the_formula() -> None:
    anchors = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre (20, 40), 20 wide, 40 high
    boxes = torch.tensor([[20.0, 20.0, 60.0, 40.0]])  # centre (40, 30), 40 wide, 20 high
    # (40 - 20) / 20, (30 - 40) / 40, log(40 / 20), log(20 / 40)
    expected = torch.tensor([[1.0, -0.25, math.log(2), -math.log(2)]])
    assert_close(encode_boxes(boxes, anchors), expected)
    assert_close(decode_boxes(expected, anchors), boxes)


def test_encoding_equals_torchvision() -> None:
    boxes, anchors = boxes_and_anchors()
    assert_close(encode_boxes(boxes, anchors), TORCHVISION.encode_single(boxes, anchors), atol=0, rtol=1e-6)


def test_decoding_equals_torchvision_also_beyond_the_largest_ratio() -> None:
    _, anchors = boxes_and_anchors()
    deltas = torch.randn(200, 4, generator=torch.Generator().manual_seed(1)) * 4
    assert (deltas[:, 2:] > MAX_LOG_RATIO).any()
    assert_close(decode_boxes(deltas, anchors), TORCHVISION.decode_single(deltas, anchors), atol=1e-3, rtol=1e-6)
    double = deltas.double(), anchors.double()
    assert_close(decode_boxes(*double), TORCHVISION.decode_single(*double), atol=1e-10, rtol=1e-12)


def test_decoding_inverts_encoding() -> None:
    boxes, anchors = (tensor.double() for tensor in boxes_and_anchors())
    assert_close(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-10, rtol=0)


def test_a_batch_shares_the_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, anchors = random_boxes(6, generator).view(2, 3, 4), random_boxes(3, generator)
    deltas = encode_boxes(boxes, anchors)
    assert_close(deltas[1], encode_boxes(boxes[1], anchors), atol=0, rtol=0)
    assert_close(decode_boxes(deltas, anchors)[1], decode_boxes(deltas[1], anchors), atol=0, rtol=0)


def test_padded_boxes_without_area_encode_to_finite_numbers() -> None:
    _, anchors = boxes_and_anchors(3)
    assert encode_boxes(torch.zeros(3, 4), anchors).isfinite().all()


def test_decoded_boxes_are_ordered_and_finite_for_extreme_offsets() -> None:
    anchors = torch.tensor([[0.0, 0.0, 16.0, 16.0]] * 2)
    boxes = decode_boxes(torch.tensor([[0.0, 0.0, 1e4, 1e4], [0.0, 0.0, -1e4, -1e4]]), anchors)
    assert boxes.isfinite().all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert_close(boxes[0, 2] - boxes[0, 0], torch.tensor(1000.0), atol=0, rtol=1e-5)  # 62.5 * 16


def test_gradient_of_an_offset_beyond_the_largest_ratio_is_zero() -> None:
    deltas = torch.tensor([[0.0, 0.0, 5.0, 1.0]], requires_grad=True)
    decode_boxes(deltas, torch.tensor([[0.0, 0.0, 16.0, 16.0]])).pow(2).sum().backward()
    assert deltas.grad is not None
    assert deltas.grad[0, 2] == 0
    assert deltas.grad[0, 3] != 0


@pytest.mark.parametrize("function", [encode_boxes, decode_boxes])
def test_no_boxes_give_no_boxes(function) -> None:  # type: ignore[no-untyped-def]
    assert function(torch.zeros(2, 0, 4), torch.zeros(0, 4)).shape == (2, 0, 4)
