import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from detector.losses import focal_star_loss, sigmoid_focal_loss
from detector.losses.focal_star import focal_star_background_terms, focal_star_loss_per_anchor
from detector.structures import BACKGROUND
from tests.losses.sigmoid_cases import grad, one_hot, random_case


def test_gamma_one_and_beta_zero_are_binary_cross_entropy() -> None:
    logits, labels, _ = random_case()
    logits.requires_grad_()
    reference = F.binary_cross_entropy_with_logits(logits, one_hot(labels, logits), reduction="none")
    for actual, rows in zip(
        focal_star_loss(logits, labels, gamma=1.0, beta=0.0), (labels >= 0, labels == BACKGROUND), strict=True
    ):
        assert_close(actual, reference[rows].sum())
        assert_close(grad(actual, logits), grad(reference[rows].sum(), logits))


@pytest.mark.parametrize(("gamma", "beta"), [(2.0, 1.0), (4.0, 0.0), (0.5, -1.0)])
def test_gradient_is_that_of_the_papers_appendix(gamma: float, beta: float) -> None:
    # Lin et al. 2017, Appendix B: dFL*/dx = y (p_t* - 1) with y = 1 for "this class" and -1 for "not this class".
    logits = torch.linspace(-8, 8, 33, dtype=torch.float64).unsqueeze(1).requires_grad_()
    for label, y in ((0, 1), (BACKGROUND, -1)):
        loss = sum(focal_star_loss(logits, torch.full((33,), label), gamma=gamma, beta=beta))
        p_t_star = torch.sigmoid(gamma * y * logits.detach() + beta)
        assert_close(torch.autograd.grad(loss, logits)[0], y * (p_t_star - 1))


def test_a_logit_of_zero_loses_what_the_shift_leaves() -> None:
    loss = focal_star_loss_per_anchor(torch.zeros(1, 1), torch.tensor([0]), gamma=2.0, beta=1.0)
    assert_close(loss, torch.tensor([math.log(1 + math.exp(-1)) / 2]))


def test_easy_examples_count_less_than_in_cross_entropy() -> None:
    # What the paper compares: both forms of the focal loss are small where x_t > 0.
    logits = torch.linspace(0, 8, 33, dtype=torch.float64).unsqueeze(1)
    for logit in logits:
        cross_entropy, focal, star = (
            value[0]
            for value in (
                sigmoid_focal_loss(logit, torch.tensor(0), alpha=None, gamma=0.0),
                sigmoid_focal_loss(logit, torch.tensor(0), alpha=None, gamma=2.0),
                focal_star_loss(logit, torch.tensor(0)),
            )
        )
        assert focal < cross_entropy
        assert star < cross_entropy / 4


def test_alpha_weighs_both_sides() -> None:
    logits, labels, _ = random_case()
    kept = labels == BACKGROUND
    assert_close(
        focal_star_loss(logits[kept], labels[kept], alpha=0.25)[1],
        0.75 * focal_star_loss(logits[kept], labels[kept])[1],
    )
    own = torch.tensor([[3.0], [-1.0]])
    labels = torch.tensor([0, 0])
    assert_close(focal_star_loss(own, labels, alpha=0.25)[0], 0.25 * focal_star_loss(own, labels)[0])


def test_at_logits_of_a_hundred_the_loss_is_zero_or_linear() -> None:
    logits = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]], requires_grad=True)
    loss = focal_star_loss_per_anchor(logits, torch.tensor([0, 0, BACKGROUND, BACKGROUND]), gamma=2.0, beta=1.0)
    # Wrong: (gamma * 100 - beta) / gamma with slope 1, as steep as cross-entropy.
    assert_close(loss, torch.tensor([0.0, 99.5, 99.5, 0.0]))
    assert_close(grad(loss.sum(), logits), torch.tensor([[0.0], [-1.0], [1.0], [0.0]]))


def test_defaults_are_a_setting_of_the_paper() -> None:
    logits, labels, _ = random_case()
    expected = focal_star_loss(logits, labels, alpha=None, gamma=2.0, beta=1.0)
    assert_close(focal_star_loss(logits, labels), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.0}, "gamma must be > 0, got 0.0"),
        ({"gamma": -1.0}, "gamma must be > 0, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be > 0, got nan"),
        ({"beta": float("inf")}, "beta must be finite, got inf"),
        ({"beta": float("nan")}, "beta must be finite, got nan"),
        ({"alpha": 1.5}, r"alpha must be None or in \[0, 1\], got 1.5"),
        ({"alpha": [0.5] * 3}, r"one number per class \(K = 5\), got shape \(3,\)"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    logits, labels, _ = random_case()
    with pytest.raises(ValueError, match=message):
        focal_star_loss(logits, labels, **arguments)
    with pytest.raises(ValueError, match=message):
        focal_star_background_terms(logits, **arguments)
