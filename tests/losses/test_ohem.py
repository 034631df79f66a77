import math

import pytest
import torch
from torch import Tensor

from detector.losses import hard_example_mask
from detector.structures import BACKGROUND, IGNORE


def random_case(num_images: int = 6, num_anchors: int = 80) -> tuple[Tensor, Tensor]:
    """Losses with many ties [N, R] and labels of all kinds; the last image has no object."""
    generator = torch.Generator().manual_seed(0)
    anchor_loss = torch.randint(0, 12, (num_images, num_anchors), generator=generator) / 4
    kinds = torch.tensor([IGNORE, -7, 0, 2] + [BACKGROUND] * 12)
    labels = kinds[torch.randint(len(kinds), (num_images, num_anchors), generator=generator)]
    labels[-1] = labels[-1].clamp(max=BACKGROUND)
    return anchor_loss, labels


def mask_by_hand(anchor_loss: Tensor, labels: Tensor, negatives_per_positive: float) -> Tensor:
    mask = torch.zeros(labels.shape, dtype=torch.bool)
    for i in range(len(labels)):
        foreground = [r for r, label in enumerate(labels[i].tolist()) if label >= 0]
        background = [r for r, label in enumerate(labels[i].tolist()) if label == BACKGROUND]
        hardest_first = sorted(background, key=lambda r: (-anchor_loss[i, r].item(), r))
        mask[i, foreground + hardest_first[: math.floor(negatives_per_positive * len(foreground))]] = True
    return mask


@pytest.mark.parametrize("negatives_per_positive", [0.0, 0.3, 1.0, 2.5, 3.0, 100.0])
def test_mask_equals_a_loop_over_images_and_anchors(negatives_per_positive: float) -> None:
    anchor_loss, labels = random_case()
    actual = hard_example_mask(anchor_loss, labels, negatives_per_positive=negatives_per_positive)
    assert actual.dtype == torch.bool
    assert torch.equal(actual, mask_by_hand(anchor_loss, labels, negatives_per_positive))


def test_default_is_three_background_anchors_to_one_of_the_foreground() -> None:
    anchor_loss, labels = random_case()
    mask = hard_example_mask(anchor_loss, labels)
    assert torch.equal((mask & (labels == BACKGROUND)).sum(dim=1), 3 * (labels >= 0).sum(dim=1))


def test_of_equal_losses_the_lower_index_is_chosen() -> None:
    labels = torch.tensor([[BACKGROUND, BACKGROUND, IGNORE, 0, BACKGROUND, BACKGROUND]])
    mask = hard_example_mask(torch.ones(1, 6), labels, negatives_per_positive=2.0)
    assert mask.tolist() == [[True, True, False, True, False, False]]


def test_an_image_without_foreground_keeps_none() -> None:
    mask = hard_example_mask(torch.rand(2, 5), torch.tensor([[BACKGROUND] * 5, [BACKGROUND] * 4 + [1]]))
    assert mask.sum(dim=1).tolist() == [0, 4]


def test_ignored_anchors_are_never_chosen_however_hard() -> None:
    anchor_loss = torch.tensor([[torch.inf, torch.nan, 100.0, 1.0, 0.5, 2.0]])
    labels = torch.tensor([[IGNORE, IGNORE, -9, BACKGROUND, BACKGROUND, 0]])
    mask = hard_example_mask(anchor_loss, labels, negatives_per_positive=100.0)
    assert mask.tolist() == [[False, False, False, True, True, True]]
    assert hard_example_mask(anchor_loss, labels, negatives_per_positive=1.0)[0, 3:].tolist() == [True, False, True]


def test_a_loss_that_is_nan_is_not_hidden() -> None:
    labels = torch.tensor([[BACKGROUND, BACKGROUND, 0]])
    mask = hard_example_mask(torch.tensor([[9.0, torch.nan, 1.0]]), labels, negatives_per_positive=1.0)
    assert mask.tolist() == [[False, True, True]]


def test_images_do_not_compete() -> None:
    anchor_loss, labels = random_case()
    single = [hard_example_mask(anchor_loss[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]
    assert torch.equal(hard_example_mask(anchor_loss, labels), torch.cat(single))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_anchors_give_an_empty_mask(shape: tuple[int, int]) -> None:
    assert hard_example_mask(torch.zeros(shape), torch.zeros(shape, dtype=torch.int64)).shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_ranked_alike(dtype: torch.dtype) -> None:
    anchor_loss, labels = random_case()
    assert torch.equal(hard_example_mask(anchor_loss.to(dtype), labels), hard_example_mask(anchor_loss, labels))


def test_the_choice_is_not_differentiated() -> None:
    anchor_loss, labels = random_case()
    assert not hard_example_mask(anchor_loss.requires_grad_(), labels).requires_grad


def test_nothing_is_read_from_the_device_and_no_shape_depends_on_the_data() -> None:
    labels = torch.zeros(2, 9, dtype=torch.int64, device="meta")  # tensors without data: to read one is an error
    assert hard_example_mask(torch.zeros(2, 9, device="meta"), labels).shape == (2, 9)


@pytest.mark.parametrize(("losses", "labels"), [((2, 3), (2, 4)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))])
def test_other_shapes_are_refused(losses: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must both be \[N, R\], got \(.*\) and \("):
        hard_example_mask(torch.zeros(losses), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("ratio", [-0.1, float("nan")])
def test_a_negative_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"negatives_per_positive must be >= 0, got {ratio}"):
        hard_example_mask(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), negatives_per_positive=ratio)
