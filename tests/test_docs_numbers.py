"""Every number of `docs/focal_loss.md` is what the functions of the program give."""

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from detector.lab.example import worked_example
from detector.losses.sigmoid_focal import sigmoid_focal_loss_per_anchor
from detector.models.heads import prior_bias
from detector.structures import BACKGROUND

PAGE = Path(__file__).resolve().parent.parent / "docs/focal_loss.md"

SETTINGS = {".01", ".05", ".25", ".5", ".75", ".95", ".02227"}
"""Parameters and p_t that the page chooses, and the tutorial's -log10(.95), which is cut off and not rounded."""

NUM_ANCHORS, NUM_FOREGROUND, NUM_CLASSES = 113_193, 100, 80


def loss_and_slope(p_t: Tensor, *, gamma: float, alpha: float | None = None, is_object: bool = True) -> Tensor:
    """[2, R] losses of examples with one class, and the sizes of their derivatives by the logit."""
    x_t = p_t.logit().unsqueeze(-1)
    x = (x_t if is_object else -x_t).requires_grad_()
    labels = torch.full(p_t.shape, 0 if is_object else BACKGROUND)
    loss = sigmoid_focal_loss_per_anchor(x, labels, alpha=alpha, gamma=gamma)
    slope = torch.autograd.grad(loss.sum(), x)[0].abs().squeeze(-1)
    return torch.stack([loss.detach(), slope])


def of(p_t: float, gamma: float) -> tuple[float, float]:
    """Loss and slope of one example without alpha."""
    loss, slope = loss_and_slope(torch.tensor([p_t], dtype=torch.float64), gamma=gamma).squeeze(1).tolist()
    return loss, slope


def factor(p_t: float) -> float:
    """How much less the focal loss with gamma 2 is than cross-entropy."""
    return of(p_t, 0.0)[0] / of(p_t, 2.0)[0]


def example_shares(gamma: float, alpha: float | None, num_negatives: int = 100_000) -> list[str]:
    """Shares of 10 hard positives in the loss and in the gradient."""
    easy, hard = torch.tensor([0.95], dtype=torch.float64), torch.tensor([0.05], dtype=torch.float64)
    negatives = num_negatives * loss_and_slope(easy, gamma=gamma, alpha=alpha, is_object=False)
    positives = 10 * loss_and_slope(hard, gamma=gamma, alpha=alpha)
    return [decimal(share, 4) for share in (positives / (negatives + positives)).flatten().tolist()]


def at_the_prior(gamma: float, alpha: float | None, logit: float = prior_bias(0.01)) -> tuple[Tensor, Tensor]:
    """[2] losses of a foreground and a background anchor whose scores are all the prior, and [2] sums of slopes."""
    x = torch.full((2, NUM_CLASSES), logit, dtype=torch.float64, requires_grad=True)
    loss = sigmoid_focal_loss_per_anchor(x, torch.tensor([0, BACKGROUND]), alpha=alpha, gamma=gamma)
    return loss.detach(), torch.autograd.grad(loss.sum(), x)[0].abs().sum(dim=1)


def first_step_shares(gamma: float, alpha: float) -> list[str]:
    """Shares of the foreground in loss and gradient of the first step."""
    counts = torch.tensor([NUM_FOREGROUND, NUM_ANCHORS - NUM_FOREGROUND])
    parts = [counts * part for part in at_the_prior(gamma, alpha)]
    return [decimal(float(part[0] / part.sum()), 4) for part in parts]


def decimal(value: float, digits: int) -> str:
    """`.0058`: the page writes no 0 before the point."""
    return f"{value:.{digits}f}".removeprefix("0")


def significant(value: float) -> str:
    """Three digits, or a whole number: `4.61`, `.00290`, `10,000`."""
    if value >= 100:
        return f"{value:,.0f}"
    return decimal(value, 2 - math.floor(math.log10(float(f"{value:.2e}"))))


def table_of_p_t() -> list[str]:
    rows = []
    for p_t in (0.01, 0.1, 0.3, 0.5, 0.9, 0.968, 0.99):
        (ce, ce_slope), (focal, focal_slope) = of(p_t, 0.0), of(p_t, 2.0)
        numbers = (ce, focal, ce / focal, ce_slope, focal_slope)
        rows.append(f"| {f'{p_t:g}'[1:]} | {' | '.join(map(significant, numbers))} |")
    return rows


def table_of_shares() -> list[str]:
    pairs = ((0, 0.5), (0, 0.75), (0.5, 0.5), (1, 0.25), (2, 0.75), (2, 0.5), (2, 0.25), (5, 0.25))
    return [
        f"| {f'{gamma:g}'.replace('0.', '.')} | {f'{alpha:g}'[1:]} | {' | '.join(first_step_shares(gamma, alpha))} |"
        for gamma, alpha in pairs
    ]


def claims_of_the_example() -> list[str]:
    plain, focal = worked_example()
    easy, hard = focal.negatives.factor, focal.positives.factor
    half = plain.negatives.sum / plain.total
    loss, slope = of(0.95, 0.0)
    shares = [*example_shares(0.0, None), *example_shares(2.0, 0.25)]
    fewer = example_shares(0.0, None, 10_000)[0], example_shares(2.0, 0.25, 10_000)[0]
    return [
        f"costs {decimal(loss, 4)}, and still pulls at its logit with a force of {decimal(slope, 2)}",
        f"hold {shares[0]} of the loss. Lowering the other {decimal(1 - plain.positive_share, 4)}",
        f"they hold {decimal(focal.positive_share, 4)}.",
        f"is {math.log(10):.4f} times one of base 10",
        f"hold {example_shares(0.0, 0.75)[0]} instead of {shares[0]}",
        f"would have to be {decimal(half, 4)}: a positive then weighs {half / (1 - half):.0f} times",
        f"an easy negative by {decimal(easy, 4)} and a hard positive by {decimal(hard, 4)}",
        f"one positive gained {hard / easy:.0f} times",
        "hold {} of the cross-entropy and {} of its gradient; of the focal loss {}, and {} of its".format(*shares),
        f"{fewer[0]} → {fewer[1]}",
    ]


def claims_of_gamma() -> list[str]:
    p_t = torch.arange(1, 10_000, dtype=torch.float64) / 10_000
    plain, focal = (loss_and_slope(p_t, gamma=gamma)[1] for gamma in (0.0, 2.0))
    steepest = int(focal.argmax())
    easy, hard = of(0.9, 0.0)[0], of(0.1, 0.0)[0]
    return [
        f"by {factor(0.5):.0f} at `p_t` = .5, by {factor(0.1):.2f} at .1",
        f"by {factor(0.9):.0f} at .9 and by {factor(0.968):.0f} at .968",
        f"for every `p_t` below {decimal(p_t[focal > plain].max().item(), 4)}",
        f"largest, {focal[steepest]:.3f}, at `p_t` = {decimal(p_t[steepest].item(), 3)}",
        f"{easy / easy**2:.1f} times less than cross-entropy at `p_t` = .9 instead of {factor(0.9):.0f}",
        f"{hard**2 / hard:.1f} times more at .1",
    ]


def claims_of_the_detector() -> list[str]:
    own, other = at_the_prior(2.0, 0.25)[0].tolist()
    without_prior = at_the_prior(2.0, 0.25, logit=0.0)[0][1].item()
    return [
        f"background terms costs {decimal(without_prior / NUM_CLASSES, 2)}, their sum is over a million",
        f"would hold {first_step_shares(2, 0.5)[0]} of the loss with equal weights",
        f"over 100 foreground anchors, is about {round(NUM_ANCHORS * without_prior / NUM_FOREGROUND, -3):,.0f}",
        f"b = {prior_bias(0.01):.3f}",
        f"113,193 anchors: {own:.3f} + {113_193 * other:.2f} / foreground anchors",
        f"201,600 anchors: {own:.3f} + {201_600 * other:.2f} / foreground anchors",
        f"{own:.3f} is alpha (1 - pi)^gamma (-log pi)",
    ]


def claims() -> list[str]:
    """Pieces of the page that hold numbers, written with what the functions give."""
    tables = [*table_of_p_t(), *table_of_shares()]
    return [*tables, *claims_of_the_example(), *claims_of_gamma(), *claims_of_the_detector()]


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_number_on_the_page_is_what_the_functions_give() -> None:
    page = words(PAGE.read_text(encoding="utf-8"))
    assert [claim for claim in claims() if claim not in page] == []


def test_no_number_on_the_page_is_left_unchecked() -> None:
    """Neither computed above, nor a setting, nor in the section of the paper's numbers: it would go stale unnoticed."""
    page = PAGE.read_text(encoding="utf-8")
    before, paper, after = re.split(r"^## 1[12]\. ", page, flags=re.MULTILINE)
    text = re.sub(r"```.*?```|`[^`]+`|\[[^\]]*\]\([^)]*\)", "", before + after, flags=re.DOTALL)  # no code, no links
    known = SETTINGS | decimals(paper) | {number for claim in claims() for number in decimals(claim)}
    assert len(decimals(text)) > 20
    assert decimals(text) - known == set()


def test_the_memory_of_many_classes_is_what_the_other_page_says() -> None:
    mebibytes = 201_600 * 700 * torch.float32.itemsize / 2**20
    page = PAGE.with_name("troubleshooting.md").read_text(encoding="utf-8")
    assert f"201,600 anchors × 700 classes are {mebibytes:.0f} MiB an image in float32" in page


def decimals(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d*\.\d+", text))
