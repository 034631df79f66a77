import dataclasses

import pytest
import torch
from torch.testing import assert_close

from detector.structures import BACKGROUND, IGNORE, AnchorTargets, Batch, Categories, Detections, HeadOutputs


def batch() -> Batch:
    return Batch(
        images=torch.ones(2, 4, 5, 3, dtype=torch.uint8),
        sizes=torch.tensor([[4, 5], [3, 2]]),
        gt_boxes=torch.ones(2, 1, 4),
        gt_labels=torch.zeros(2, 1, dtype=torch.int64),
        gt_mask=torch.ones(2, 1, dtype=torch.bool),
        gt_ignore=torch.zeros(2, 1, dtype=torch.bool),
        image_ids=(7, 9),
        original_sizes=((8, 10), (6, 4)),
    )


def test_background_and_ignore_are_two_negative_numbers() -> None:
    assert (BACKGROUND, IGNORE) == (-1, -2)


def test_moving_a_batch_moves_every_tensor_and_nothing_else() -> None:
    moved = batch().to(torch.device("meta"))
    tensors = [value for f in dataclasses.fields(moved) if isinstance(value := getattr(moved, f.name), torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.image_ids == (7, 9)
    assert moved.original_sizes == ((8, 10), (6, 4))


def test_what_flows_cannot_be_rebound() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch().image_ids = (1, 2)  # type: ignore[misc]


def test_head_outputs_count_the_anchors_of_each_level() -> None:
    outputs = HeadOutputs(tuple(torch.zeros(2, n, 3) for n in (12, 4)), tuple(torch.zeros(2, n, 4) for n in (12, 4)))
    assert outputs.anchors_per_level == (12, 4)


def test_targets_count_the_foreground_of_each_image() -> None:
    labels = torch.tensor([[0, 3, BACKGROUND], [IGNORE, BACKGROUND, IGNORE]])
    targets = AnchorTargets(labels, torch.zeros_like(labels), torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int64))
    assert targets.foreground.tolist() == [[True, True, False], [False, False, False]]
    assert targets.num_foreground.tolist() == [2, 0]


def test_detections_move_together() -> None:
    moved = Detections(torch.ones(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64)).to("meta")
    assert {tensor.device.type for tensor in (moved.boxes, moved.scores, moved.labels)} == {"meta"}


def test_categories_are_ordered_by_id_with_gaps_and_zero() -> None:
    categories = Categories.from_coco(
        [{"id": 90, "name": "toothbrush"}, {"id": 0, "name": "a"}, {"id": 3, "name": "b"}]
    )
    assert categories == Categories(ids=(0, 3, 90), names=("a", "b", "toothbrush"))
    assert len(categories) == 3


@pytest.mark.gpu
def test_a_pinned_batch_moves_to_the_gpu_and_back_unchanged() -> None:
    pinned = batch().pin_memory()
    assert pinned.images.is_pinned()
    moved = pinned.to(torch.device("cuda"))
    assert_close(moved.images.cpu(), batch().images, atol=0, rtol=0)
