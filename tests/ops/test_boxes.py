import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import box_iou, clip_boxes_to_image

from detector.ops.boxes import box_area, clip_boxes, pairwise_intersection, pairwise_iou
from detector.ops.precision import at_least_float32
from tests.helpers import random_boxes


def test_area_is_width_times_height_without_plus_one() -> None:
    assert_close(
        box_area(torch.tensor([[[1.0, 2.0, 4.0, 7.5]], [[3.0, 3.0, 3.0, 9.0]]])), torch.tensor([[16.5], [0.0]])
    )


def test_intersection_and_iou_equal_hand_computed_values() -> None:
    gt_boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    anchors = torch.tensor(
        [
            [0.0, 0.0, 4.0, 4.0],  # the same: 16 / 16
            [2.0, 2.0, 6.0, 6.0],  # 2 x 2 common: 4 / (16 + 16 - 4)
            [4.0, 0.0, 8.0, 4.0],  # touches at the edge
            [9.0, 9.0, 10.0, 10.0],  # apart in both directions: no positive product of two negative sides
            [1.0, 1.0, 3.0, 3.0],  # inside: 4 / 16
        ]
    )
    assert_close(pairwise_intersection(gt_boxes, anchors), torch.tensor([[16.0, 4.0, 0.0, 0.0, 4.0]]))
    assert_close(pairwise_iou(gt_boxes, anchors), torch.tensor([[1.0, 1 / 7, 0.0, 0.0, 0.25]]))


def test_iou_equals_torchvision_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    gt_boxes, anchors = random_boxes(50, generator), random_boxes(300, generator)
    assert_close(pairwise_iou(gt_boxes, anchors), box_iou(gt_boxes, anchors), atol=0, rtol=0)


def test_images_of_a_batch_are_independent() -> None:
    generator = torch.Generator().manual_seed(0)
    gt_boxes, anchors = random_boxes(6, generator).view(2, 3, 4), random_boxes(5, generator)
    iou = pairwise_iou(gt_boxes, anchors)
    assert iou.shape == (2, 3, 5)
    for i in range(2):
        assert_close(iou[i], box_iou(gt_boxes[i], anchors), atol=0, rtol=0)


def test_inputs_are_left_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    gt_boxes, anchors = random_boxes(3, generator), random_boxes(5, generator)
    before = gt_boxes.clone(), anchors.clone()
    pairwise_iou(gt_boxes, anchors)
    assert_close((gt_boxes, anchors), before, atol=0, rtol=0)


def test_padded_rows_have_iou_zero() -> None:
    anchors = torch.tensor([[-4.0, -4.0, 4.0, 4.0], [0.0, 0.0, 1.0, 1.0]])
    assert torch.count_nonzero(pairwise_iou(torch.zeros(3, 4), anchors)) == 0


def test_no_ground_truth_gives_an_empty_matrix() -> None:
    assert pairwise_iou(torch.zeros(2, 0, 4), torch.ones(7, 4)).shape == (2, 0, 7)


def test_clipping_equals_torchvision() -> None:
    boxes = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * 100
    assert_close(clip_boxes(boxes, (40, 90)), clip_boxes_to_image(boxes, (40, 90)), atol=0, rtol=0)
    assert clip_boxes(torch.zeros(0, 4), (4, 9)).shape == (0, 4)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_only_half_types_are_raised(dtype: torch.dtype, expected: torch.dtype) -> None:
    tensor = torch.ones(2, dtype=dtype)
    raised = at_least_float32(tensor)
    assert raised.dtype == expected
    assert (raised is tensor) == (dtype == expected)
