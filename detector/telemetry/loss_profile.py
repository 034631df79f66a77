"""Where the focal loss of a trained network comes from: few hard anchors or many easy ones.

Lin et al. 2017, Sec. 5.1 "Analysis of the Focal Loss" and Fig. 4: the anchors are sorted by their loss, foreground and
background apart, each loss is divided by the sum of its split, and added up. Letters: G gammas, B bins of the loss,
P bins of p_t; splits in the order foreground, background.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from detector.telemetry.json_values import finite_or_none

Split = Literal["foreground", "background"]
SPLITS: Final[tuple[Split, Split]] = ("foreground", "background")

FloatArray = npt.NDArray[np.float64]

HARDEST: Final[dict[Split, tuple[float, ...]]] = {"foreground": (0.2,), "background": (0.2, 0.01, 0.001)}
"""Fractions of the hardest anchors whose share of the loss is reported; the paper speaks of the hardest 20 %."""

NUM_P_BINS = 50
"""P, bins of p_t over [0, 1]."""

_DECADES: Final = (-30, 4)
_BINS_PER_DECADE = 32
NUM_LOSS_BINS = (_DECADES[1] - _DECADES[0]) * _BINS_PER_DECADE + 2
"""B, with a bin for what is smaller and one for what is larger or not finite."""


def loss_edges() -> FloatArray:
    """Return the [B - 1] borders between the bins of the loss, 1e-30 ... 1e4 in equal ratios of 1.075."""
    return np.logspace(*_DECADES, NUM_LOSS_BINS - 1)


def p_edges() -> FloatArray:
    """Return the [P + 1] borders of the bins of p_t, 0 ... 1."""
    return np.linspace(0.0, 1.0, NUM_P_BINS + 1)


def num_sums(num_gammas: int) -> int:
    """Return the length of the flat tensor that :meth:`LossProfile.from_sums` reads."""
    return 1 + 2 * NUM_P_BINS + num_gammas * 2 * (1 + 2 * NUM_LOSS_BINS)


@dataclass(frozen=True, slots=True, eq=False)
class LossProfile:
    """The focal loss of a network over all anchors of some images, for several gammas.

    The cumulative loss is exact at the borders of the bins. In between, the anchors of a bin are taken to have the same
    loss: the curve, convex with a slope that grows by a factor of at most 1.075 within the bin, becomes its chord. That
    is too high by at most 0.019 of the bin's own share (a quarter of 1.075 - 1), for losses from 1e-30 to 1e4.

    Attributes:
        gammas: rising.
        run_gamma: the one that the network was trained with; None where its loss has no such exponent.
        num_images: images that the anchors are from.
        counts: [G, 2, B] anchors in each bin of the loss.
        losses: [G, 2, B] their losses, added.
        gradients: [G, 2] absolute derivatives by the logits, added.
        p_t: [2, P] anchors in each bin of p_t: of the target class for foreground, 1 - highest p for background.
    """

    gammas: tuple[float, ...]
    run_gamma: float | None
    num_images: int
    counts: FloatArray
    losses: FloatArray
    gradients: FloatArray
    p_t: FloatArray

    @classmethod
    def from_sums(cls, sums: Tensor, gammas: tuple[float, ...], run_gamma: float | None) -> Self:
        """Return the profile of what a :class:`LossProfiler` added up.

        Args:
            sums: [num_sums(G)] float64, in the order number of images, p_t, gradients, counts, losses.
            gammas: see the attributes, like ``run_gamma``.
            run_gamma: likewise.
        """
        num_bins = len(gammas) * 2 * NUM_LOSS_BINS
        images, p_t, gradients, counts, losses = sums.cpu().split(
            [1, 2 * NUM_P_BINS, 2 * len(gammas), num_bins, num_bins]
        )
        shape = (len(gammas), 2, NUM_LOSS_BINS)
        return cls(
            gammas=gammas,
            run_gamma=run_gamma,
            num_images=round(images.item()),
            counts=counts.view(shape).numpy(),
            losses=losses.view(shape).numpy(),
            gradients=gradients.view(-1, 2).numpy(),
            p_t=p_t.view(2, -1).numpy(),
        )

    def num_anchors(self, split: Split) -> int:
        """Return the number of anchors."""
        return round(float(self.p_t[SPLITS.index(split)].sum()))

    def cumulative(self, gamma: float, split: Split) -> tuple[FloatArray, FloatArray]:
        """Return the cumulative loss, easiest anchors first.

        Returns:
            Fractions of the anchors and their shares of the loss, both rising from 0 to 1, at the borders of the bins
            that hold anchors; both empty if no curve can be drawn: no anchors, no loss, or a loss that is not finite.
        """
        counts, losses = self._bins(gamma, split)
        if not 0 < losses.sum() < math.inf:
            return np.zeros(0), np.zeros(0)
        filled = counts > 0
        fractions, shares = (np.concatenate(([0.0], np.cumsum(bins[filled]))) for bins in (counts, losses))
        return fractions / fractions[-1], shares / shares[-1]

    def hardest_share(self, gamma: float, split: Split, fraction: float) -> float:
        """Return the share of the loss, in [0, 1], that the hardest ``fraction`` of the anchors holds; NaN for none."""
        fractions, shares = self.cumulative(gamma, split)
        if not fractions.size:
            return math.nan
        return float(1.0 - np.interp(1.0 - fraction, fractions, shares))

    def foreground_loss_share(self, gamma: float) -> float:
        """Return foreground's share of the loss of all anchors, in [0, 1]; NaN if there is none."""
        foreground, background = (self._bins(gamma, split)[1].sum() for split in SPLITS)
        return _share(foreground, background)

    def foreground_gradient_share(self, gamma: float) -> float:
        """Return foreground's share of the absolute derivatives by the logits, in [0, 1]; NaN if there are none."""
        foreground, background = self.gradients[self._idx(gamma)]
        return _share(foreground, background)

    def to_json(self) -> dict[str, Any]:
        """Return the headline numbers as plain numbers, lists and dicts; None for what is not finite."""
        return {
            "num_images": self.num_images,
            "num_foreground": self.num_anchors("foreground"),
            "num_background": self.num_anchors("background"),
            "run_gamma": self.run_gamma,
            "by_gamma": [self._headline(gamma) for gamma in self.gammas],
            "p_t_foreground": [round(count) for count in self.p_t[0].tolist()],
            "p_t_background": [round(count) for count in self.p_t[1].tolist()],
        }

    def _headline(self, gamma: float) -> dict[str, Any]:
        row: dict[str, Any] = {
            "gamma": gamma,
            "fg_share": finite_or_none(self.foreground_loss_share(gamma)),
            "fg_gradient_share": finite_or_none(self.foreground_gradient_share(gamma)),
        }
        for split, fractions in HARDEST.items():
            shares = {f"{part:g}": finite_or_none(self.hardest_share(gamma, split, part)) for part in fractions}
            row[f"{split}_held_by_hardest"] = shares
        return row

    def _bins(self, gamma: float, split: Split) -> tuple[FloatArray, FloatArray]:
        idx = self._idx(gamma), SPLITS.index(split)
        return self.counts[idx], self.losses[idx]

    def _idx(self, gamma: float) -> int:
        if gamma not in self.gammas:
            raise ValueError(
                f"no profile for gamma {gamma}, only for {', '.join(f'{known:g}' for known in self.gammas)}"
            )
        return self.gammas.index(gamma)


def _share(foreground: float, background: float) -> float:
    total = foreground + background
    return float(foreground / total) if 0 < total < math.inf else math.nan
