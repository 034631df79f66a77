"""What `docs/focal_loss.md` says of the losses, claim by claim; each name is linked from there."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.anchors import AnchorGenerator
from detector.config_io import ConfigError, load_config
from detector.criterion import Criterion
from detector.losses import sigmoid_ce_loss, sigmoid_focal_loss, softmax_focal_loss
from detector.losses.sigmoid_focal import sigmoid_focal_loss_per_anchor
from detector.models.heads import initial_cls_bias, prior_bias
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs

P_T = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
"""Probabilities of the truth, from hopeless to certain."""


def focal_of(p_t: Tensor, *, gamma: float, is_object: bool = True) -> tuple[Tensor, Tensor]:
    """Loss of examples without alpha, [R], and its derivative by the logit x, [R]."""
    x = (p_t.logit() if is_object else -p_t.logit()).requires_grad_()
    labels = torch.full(p_t.shape, 0 if is_object else BACKGROUND)
    loss = sigmoid_focal_loss_per_anchor(x.unsqueeze(-1), labels, alpha=None, gamma=gamma)
    return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]


def random_logits(*shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale


# Gamma


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("is_object", "y"), [(True, 1), (False, -1)])
def test_the_gradient_is_that_of_the_papers_appendix(gamma: float, is_object: bool, y: int) -> None:
    expected = y * (1 - P_T) ** gamma * (gamma * P_T * P_T.log() + P_T - 1)
    assert_close(focal_of(P_T, gamma=gamma, is_object=is_object)[1], expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_gamma_shrinks_the_loss_of_every_example_and_of_easy_ones_more(gamma: float) -> None:
    # Of background anchors: an object's own term is a difference, and rounds to 0 where it is below 1e-16.
    factor = focal_of(P_T, gamma=gamma, is_object=False)[0] / focal_of(P_T, gamma=0.0, is_object=False)[0]
    assert_close(factor, (1 - P_T) ** gamma)
    assert (factor < 1).all()
    assert (factor.diff() < 0).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_gamma_steepens_the_slope_of_the_hardest_examples(gamma: float) -> None:
    steeper = focal_of(P_T, gamma=gamma)[1].abs() > focal_of(P_T, gamma=0.0)[1].abs()
    assert steeper[0]
    assert not steeper[-1]
    assert steeper.int().diff().count_nonzero() == 1  # one crossing: steeper below it, flatter above


# Alpha


def test_alpha_treats_easy_and_hard_examples_of_a_kind_alike() -> None:
    x = random_logits(50, 1)
    for label, weight in ((0, 0.25), (BACKGROUND, 0.75)):
        for one in x:
            plain = sum(sigmoid_ce_loss(one[None], torch.tensor([label])))
            assert_close(sum(sigmoid_ce_loss(one[None], torch.tensor([label]), alpha=0.25)), weight * plain)


def test_without_alpha_the_loss_is_twice_that_of_alpha_one_half() -> None:
    logits, labels = random_logits(30, 3), torch.arange(30) % 4 - 1
    halves = sigmoid_focal_loss(logits, labels, alpha=0.5)
    assert_close(sigmoid_focal_loss(logits, labels, alpha=None), (2 * halves[0], 2 * halves[1]))


def test_weights_in_one_dimension_against_losses_in_two_are_all_averaged_away() -> None:
    logits, targets, alpha = random_logits(40, 4), torch.arange(40) % 4, torch.tensor([0.0, 0.0, 0.0, 4.0]).double()
    losses = softmax_focal_loss(logits, targets, reduction="none")
    copied = (alpha[targets] * losses.unsqueeze(1)).mean()  # [N] * [N, 1] = [N, N]
    assert_close(copied, losses.mean())  # as if there were no weights: they are 1 on average
    assert softmax_focal_loss(logits, targets, alpha=alpha) != pytest.approx(losses.mean().item(), rel=0.01)


# What is no focal loss


def test_a_power_of_the_cross_entropy_raises_hard_examples_and_leaves_easy_ones_much_more() -> None:
    cross_entropy, focal = focal_of(P_T, gamma=0.0)[0], focal_of(P_T, gamma=2.0)[0]
    power = cross_entropy**2
    assert (power > cross_entropy)[P_T.lt(1 / math.e - 1e-3)].all()
    assert (power > focal).all()


def test_the_logarithm_of_a_softmax_is_infinite_where_the_log_softmax_is_a_number() -> None:
    logits, target = torch.tensor([[0.0, 200.0]], requires_grad=True), torch.tensor([0])
    p_t = logits.softmax(dim=1)[0, 0]
    copied = -((1 - p_t) ** 2) * p_t.log()
    assert copied.isinf()
    assert torch.autograd.grad(copied, logits)[0].isnan().any()
    ours = softmax_focal_loss(logits, target)
    assert_close(ours, torch.tensor(200.0))
    assert torch.autograd.grad(ours, logits)[0].isfinite().all()
    # A clamp only hides it: the number is finite, and the worst example of all gets no gradient.
    clamped = logits.softmax(dim=1)[0, 0].clamp(min=1e-7)
    assert torch.autograd.grad(-((1 - clamped) ** 2) * clamped.log(), logits)[0].count_nonzero() == 0


# Sigmoid and softmax


@pytest.mark.parametrize("num_classes", [1, 6, 80])
def test_the_prior_gives_every_class_pi_under_sigmoid_and_all_classes_together_under_softmax(num_classes: int) -> None:
    sigmoid = initial_cls_bias(num_classes, 0.01, "sigmoid").double().sigmoid()
    assert_close(sigmoid, torch.full((num_classes,), 0.01, dtype=torch.float64), rtol=1e-5, atol=0)
    softmax = initial_cls_bias(num_classes, 0.01, "softmax").double().softmax(dim=0)
    assert_close(softmax[:-1], torch.full((num_classes,), 0.01 / num_classes, dtype=torch.float64), rtol=1e-5, atol=0)
    assert_close(softmax[-1], torch.tensor(0.99, dtype=torch.float64), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("loss", "activation"), [("softmax_focal", "sigmoid"), ("sigmoid_focal", "softmax")])
def test_a_loss_that_does_not_fit_the_activation_is_refused_with_what_to_set(loss: str, activation: str) -> None:
    fitting = loss.partition("_")[0]
    with pytest.raises(ConfigError, match=rf"{activation} does not fit .* {loss}; set model.head.activation={fitting}"):
        load_config("retina_coco", [f"loss.cls.name={loss}", f"model.head.activation={activation}"])


# From a formula to a detector


@pytest.mark.parametrize(("size", "expected"), [((600, 1000), 113_193), ((800, 1344), 201_600)])
def test_an_image_has_a_hundred_thousand_anchors_and_more(size: tuple[int, int], expected: int) -> None:
    generator = AnchorGenerator()
    assert sum(height * width * 9 for height, width in generator.feature_shapes(size)) == expected
    assert len(generator(generator.feature_shapes(size))) == expected


@pytest.mark.parametrize(("num_anchors", "background_part"), [(113_193, 6.83), (201_600, 12.16)])
def test_the_first_class_loss_is_a_constant_plus_the_background_over_the_foreground(
    num_anchors: int, background_part: float
) -> None:
    x = torch.full((1, 80), prior_bias(0.01), dtype=torch.float64)
    own = sigmoid_focal_loss(x, torch.tensor([0]))[0]  # a foreground anchor, all 80 terms
    background = sigmoid_focal_loss(x, torch.tensor([BACKGROUND]))[1]
    assert_close(own.item(), 1.128, rtol=0, atol=5e-4)
    assert_close(num_anchors * background.item(), background_part, rtol=0, atol=5e-3)


def test_without_the_prior_the_first_class_loss_is_ten_thousand() -> None:
    background = sigmoid_focal_loss(torch.zeros(1, 80, dtype=torch.float64), torch.tensor([BACKGROUND]))[1]
    assert 1.17e6 < 113_193 * background.item() < 1.18e6  # over a hundred foreground anchors: 1.2e4


def test_the_mean_over_anchors_is_the_papers_loss_times_the_share_of_foreground_anchors() -> None:
    num_anchors, num_foreground = 1000, 4
    labels = torch.full((1, num_anchors), BACKGROUND)
    labels[0, :num_foreground] = 2
    outputs = HeadOutputs((random_logits(1, num_anchors, 5),), (torch.zeros(1, num_anchors, 4),))
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(num_anchors, 1)
    targets = AnchorTargets(
        target_labels=labels,
        matched_idxs=torch.zeros_like(labels),
        matched_boxes=anchors[None],
        num_unmatched_gt=torch.zeros(1, dtype=torch.int64),
    )
    papers = Criterion()(outputs, targets, anchors, targets.num_foreground.sum()).loss_cls
    mean = sum(sigmoid_focal_loss(outputs.cls_logits[0], labels)) / num_anchors
    assert_close(mean, papers * num_foreground / num_anchors)
