import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.losses import FocalSums, sigmoid_focal_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss_per_anchor, sigmoid_focal_sums
from detector.losses.split import focal_sums, sum_split
from detector.structures import BACKGROUND, IGNORE

NUM_IMAGES, ANCHORS_PER_LEVEL, NUM_CLASSES = 3, (7, 1, 0, 4), 2
FIELDS = ("foreground", "background", "num_foreground", "num_background", "num_ignored")


def make_levels() -> tuple[list[Tensor], list[Tensor]]:
    """Logits [N, Rl, K] and labels [N, Rl] of four levels, one of them without anchors; image 2 has no objects."""
    generator = torch.Generator().manual_seed(0)
    logits = [
        torch.randn(NUM_IMAGES, n, NUM_CLASSES, generator=generator, dtype=torch.float64).requires_grad_()
        for n in ANCHORS_PER_LEVEL
    ]
    labels = [torch.randint(-3, NUM_CLASSES, (NUM_IMAGES, n), generator=generator) for n in ANCHORS_PER_LEVEL]
    for level in labels:
        level[2].clamp_(max=BACKGROUND)
    assert {-3, IGNORE, BACKGROUND, 0, 1} == set(torch.cat(labels, dim=1).flatten().tolist())
    return logits, labels


def by_hand(anchor_losses: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
    """The five fields, [N, L] each, by loops over images, levels and anchors."""
    cells = [[[0.0] * 5 for _ in anchor_losses] for _ in range(NUM_IMAGES)]
    for level, (level_losses, level_labels) in enumerate(zip(anchor_losses, labels, strict=True)):
        for image in range(NUM_IMAGES):
            for value, label in zip(level_losses[image].tolist(), level_labels[image].tolist(), strict=True):
                cell = cells[image][level]
                if label >= 0:
                    cell[0] += value
                    cell[2] += 1
                elif label == BACKGROUND:
                    cell[1] += value
                    cell[3] += 1
                else:
                    cell[4] += 1
    return [torch.tensor(cells, dtype=torch.float64)[..., i] for i in range(5)]


def test_sums_and_counts_equal_loops_over_images_and_levels() -> None:
    logits, labels = make_levels()
    sums = sigmoid_focal_sums(logits, labels, alpha=0.3, gamma=1.5)
    losses = [sigmoid_focal_loss_per_anchor(*level, alpha=0.3, gamma=1.5) for level in zip(logits, labels, strict=True)]
    for name, expected in zip(FIELDS, by_hand(losses, labels), strict=True):
        actual = getattr(sums, name)
        assert actual.shape == (NUM_IMAGES, len(ANCHORS_PER_LEVEL))
        assert actual.dtype == (torch.int64 if name.startswith("num_") else torch.float64)
        assert_close(actual.double(), expected)


def test_counts_add_up_to_the_anchors_of_every_image_and_level() -> None:
    sums = sigmoid_focal_sums(*make_levels())
    expected = torch.tensor(ANCHORS_PER_LEVEL).expand(NUM_IMAGES, -1)
    assert torch.equal(sums.num_foreground + sums.num_background + sums.num_ignored, expected)


def test_totals_are_those_of_the_public_function_in_value_and_gradient() -> None:
    logits, labels = make_levels()
    sums = sigmoid_focal_sums(logits, labels)
    public = sigmoid_focal_loss(torch.cat(logits, dim=1), torch.cat(labels, dim=1))
    totals = (sums.foreground.sum(), sums.background.sum())
    assert_close(totals, public)
    for actual, expected in zip(totals, public, strict=True):
        gradients = (torch.autograd.grad(value, logits, retain_graph=True) for value in (actual, expected))
        assert_close(*gradients)


def test_one_cell_has_gradient_only_at_the_anchors_of_its_image_and_level() -> None:
    logits, labels = make_levels()
    sums = sigmoid_focal_sums(logits, labels)
    gradients = torch.autograd.grad(sums.foreground[1, 0], logits)
    expected = torch.zeros(NUM_IMAGES, ANCHORS_PER_LEVEL[0], dtype=torch.bool)
    expected[1] = labels[0][1] >= 0
    assert expected.any()
    assert torch.equal(gradients[0].ne(0).any(-1), expected)
    assert not any(gradient.any() for gradient in gradients[1:])


def test_losses_of_ignored_anchors_do_not_matter() -> None:
    _, labels = make_levels()
    anchor_losses = [torch.where(level < BACKGROUND, float("nan"), 2.0).requires_grad_() for level in labels]
    sums = focal_sums(anchor_losses, labels)
    assert_close(sums.foreground, 2.0 * sums.num_foreground)
    assert_close(sums.background, 2.0 * sums.num_background)
    gradients = torch.autograd.grad(sums.foreground.sum() + sums.background.sum(), anchor_losses)
    for gradient, level in zip(gradients, labels, strict=True):
        assert torch.equal(gradient, (level >= BACKGROUND).float())
    split = sum_split(anchor_losses[0], labels[0])
    assert_close(split, (sums.foreground[:, 0].sum(), sums.background[:, 0].sum()))


def test_summing_over_the_levels_rounds_as_summing_stacked_levels_does() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = [torch.rand(400, 1, generator=generator) for _ in range(5)]
    sums = focal_sums(losses, [torch.zeros(400, 1, dtype=torch.int64)] * 5)
    assert torch.equal(sums.foreground.sum(dim=1), torch.stack([loss.squeeze(1) for loss in losses]).sum(dim=0))


@pytest.mark.parametrize("num_images", [0, 2])
def test_no_anchors_give_zeros(num_images: int) -> None:
    sums = sigmoid_focal_sums([torch.zeros(num_images, 0, 3)], [torch.zeros(num_images, 0, dtype=torch.int64)])
    assert isinstance(sums, FocalSums)
    for name in FIELDS:
        field = getattr(sums, name)
        assert field.shape == (num_images, 1)
        assert not field.any()


def test_losses_that_do_not_fit_the_labels_are_refused() -> None:
    labels = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\[N, Rl\] at every level, got \[\] and \[\]"):
        focal_sums([], [])
    with pytest.raises(ValueError, match=r"got \[\(2, 3\)\] and \[\(2, 3\), \(2, 3\)\]"):
        focal_sums([torch.zeros(2, 3)], [labels, labels])
    with pytest.raises(ValueError, match=r"got \[\(2, 1\)\] and \[\(2, 3\)\]"):  # it would broadcast
        focal_sums([torch.zeros(2, 1)], [labels])
    with pytest.raises(ValueError, match=r"got \[\(3,\)\] and \[\(3,\)\]"):
        focal_sums([torch.zeros(3)], [labels[0]])
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 1\) and \(2, 3\)"):
        sum_split(torch.zeros(2, 1), labels)
    with pytest.raises(ValueError, match="cls_logits has 2 levels and target_labels 1"):
        sigmoid_focal_sums([torch.zeros(2, 3, 4)] * 2, [labels])
