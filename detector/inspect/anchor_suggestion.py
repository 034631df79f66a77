"""Whether other anchors would cover a dataset's boxes better."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.inspect.anchor_coverage import AnchorStudy, Coverage
from detector.inspect.anchor_fit import FitTarget, fit_shapes
from detector.inspect.anchor_shapes import AnchorShapes, round_shapes

LEAST_GAIN: Final = 0.01
"""Other anchors are suggested from a gain of this share of the boxes on: less may be chance."""

WELL_COVERED: Final = 0.95
"""From this share of covered boxes on, anchors fit, and more of them are not worth their time."""

FEW_ANCHORS: Final = 3
"""A box with fewer anchors than this has little to learn from."""


@dataclass(frozen=True, slots=True)
class CoverageNumbers:
    """A coverage in a few numbers; shares are of all boxes, in [0, 1].

    Attributes:
        reached: boxes with an anchor whose IoU reaches the threshold.
        class_mean: the mean over the classes of that share of each.
        worst_label: the class with the lowest such share.
        worst_class: its share.
        mean_iou: mean of the boxes' best IoU.
        rescued: boxes with anchors only by the rule for low-quality matches.
        unmatched: boxes without an anchor.
        median_positives: median of the number of anchors of a box.
        few_positives: boxes with fewer than FEW_ANCHORS.
    """

    reached: float
    class_mean: float
    worst_label: int
    worst_class: float
    mean_iou: float
    rescued: float
    unmatched: float
    median_positives: float
    few_positives: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Anchors that were fitted, measured on all boxes beside those that there are.

    Attributes:
        shapes: the fitted anchors, rounded.
        coverage: theirs.
        before: numbers of the anchors that there are.
        after: numbers of the fitted ones.
    """

    shapes: AnchorShapes
    coverage: Coverage
    before: CoverageNumbers
    after: CoverageNumbers

    @property
    def gain(self) -> float:
        """The larger of the gains in covered boxes and in the mean over classes."""
        return max(self.after.reached - self.before.reached, self.after.class_mean - self.before.class_mean)

    @property
    def is_worth_it(self) -> bool:
        """Whether the gain is large enough, without a loss by the other count."""
        loses = self.after.reached < self.before.reached or self.after.class_mean < self.before.class_mean
        return self.gain >= LEAST_GAIN and not loses


def count_up(coverage: Coverage) -> CoverageNumbers:
    """Return the numbers of a coverage of at least one box."""
    matches, shares, worst = coverage.matches, coverage.class_shares(), coverage.worst_class()
    return CoverageNumbers(
        reached=float(coverage.is_reached.mean()),
        class_mean=float(np.mean(list(shares.values()))),
        worst_label=worst,
        worst_class=shares[worst],
        mean_iou=float(matches.best_iou.mean(dtype=np.float64)),
        rescued=float(coverage.is_rescued.mean()),
        unmatched=float(coverage.is_unmatched.mean()),
        median_positives=float(np.median(matches.num_positives)),
        few_positives=float((matches.num_positives < FEW_ANCHORS).mean()),
    )


def make_suggestion(study: AnchorStudy, target: FitTarget, current: AnchorShapes, coverage: Coverage) -> Suggestion:
    """Fit anchors, as many per cell as there are, and measure them on all boxes.

    Args:
        study: all boxes.
        target: boxes to fit.
        current: the anchors that there are.
        coverage: theirs, of all boxes.
    """
    shapes = round_shapes(fit_shapes(target, current))
    after = study.measure(shapes)
    return Suggestion(shapes, after, count_up(coverage), count_up(after))


def gains_of_more(study: AnchorStudy, target: FitTarget, shapes: AnchorShapes) -> dict[str, tuple[int, float]]:
    """Return what one more aspect ratio or scale would give: by name, anchors per cell and share of boxes covered.

    Args:
        study: the boxes to measure on.
        target: boxes to fit.
        shapes: anchors that fit as well as so many can.
    """
    found = {}
    ratios, scales = shapes.aspect_ratios, shapes.scales
    for name, wider in (
        ("aspect ratio", AnchorShapes(shapes.sizes, scales, (*ratios, 2 * max(ratios)))),
        ("scale", AnchorShapes(shapes.sizes, (*scales, 2 ** (1 / 3) * max(scales)), ratios)),
    ):
        fitted = round_shapes(fit_shapes(target, wider))
        found[name] = (fitted.num_per_cell, float(study.measure(fitted).is_reached.mean()))
    return found
