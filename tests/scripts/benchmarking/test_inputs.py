"""benchmarking/inputs.py: inputs that are what they say."""

import torch
from benchmarking import calm_frozen_norms, random_batch, random_boxes
from torch.testing import assert_close
from torchvision.ops import FrozenBatchNorm2d

from detector.models.norm import FrozenBatchNorm2d as OurFrozenBatchNorm2d


def test_random_boxes_lie_in_the_image_and_depend_on_the_seed_alone() -> None:
    boxes = random_boxes(3, 50, (200, 320))
    assert boxes.shape == (3, 50, 4)
    x1, y1, x2, y2 = boxes.unbind(dim=2)
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= 320).all()
    assert (y2 <= 200).all()
    assert (x2 - x1 >= 16).all()
    assert (y2 - y1 >= 16).all()
    assert_close(boxes, random_boxes(3, 50, (200, 320)), rtol=0, atol=0)
    assert not torch.equal(boxes, random_boxes(3, 50, (200, 320), seed=1))


def test_a_random_batch_moves_no_global_random_state() -> None:
    state = torch.get_rng_state()
    batch = random_batch(2, (64, 96), num_classes=5, num_boxes=3)
    assert torch.equal(state, torch.get_rng_state())
    assert batch.images.shape == (2, 64, 96, 3)
    assert batch.images.dtype == torch.uint8
    assert batch.gt_boxes.shape == (2, 3, 4)
    assert batch.gt_labels.max() < 5
    assert batch.gt_mask.all()
    assert not batch.gt_ignore.any()


def test_frozen_norms_of_both_libraries_are_calmed() -> None:
    network = torch.nn.Sequential(FrozenBatchNorm2d(3), OurFrozenBatchNorm2d(3), torch.nn.BatchNorm2d(3))
    calm_frozen_norms(network)
    assert [float(layer.weight[0].detach()) for layer in network] == [0.5, 0.5, 1.0]
