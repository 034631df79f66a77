"""One line on how a configuration's anchors fit its boxes, for every run to begin with."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from detector.config import Config
from detector.data.annotations import AnnotationTable
from detector.inspect.anchor_coverage import Coverage, build_anchor_study
from detector.inspect.anchor_shapes import build_shapes

SUMMARY_BOXES: Final = 20_000
"""About how many boxes are looked at: a second of work, and shares that are good to half a point."""


def build_anchor_summary(config: Config, table: AnnotationTable) -> str:
    """Return the line for a configuration and its training set, within two seconds.

    Args:
        config: anchors, thresholds and sizes.
        table: the training annotations; with more than SUMMARY_BOXES boxes evenly spaced images are looked at.

    Raises:
        UserError: an image fits in no bucket.
    """
    study = build_anchor_study(config, table, SUMMARY_BOXES)
    return summarise_coverage(study.measure(build_shapes(config.model.anchors)), table.categories.names)


def summarise_coverage(coverage: Coverage, class_names: Sequence[str]) -> str:
    """Say in one line how well anchors cover boxes."""
    if not len(coverage.training):
        return "anchors: there are no boxes for them to match"
    num_boxes = len(np.unique(coverage.training.rows))
    rescued, unmatched = float(coverage.is_rescued.mean()), float(coverage.is_unmatched.mean())
    text = (
        f"anchors: {percent(float(coverage.is_reached.mean()))} of {num_boxes:,} boxes have an anchor with IoU >= "
        f"{coverage.fg_iou_thresh:g} (median {np.median(coverage.matches.num_positives):g} anchors a box); "
        f"{percent(rescued)} only by the low-quality rule, {percent(unmatched)} without"
    )
    shares = coverage.class_shares()
    if len(shares) > 1:
        worst = coverage.worst_class()
        text += f"; worst class {class_names[worst]} {percent(shares[worst])}"
    return f"{text}; see fit-anchors"


def percent(share: float) -> str:
    """Write a share in [0, 1]; only an empty one is none, and only a whole one is 100 %."""
    if share in (0.0, 1.0):
        return "100 %" if share else "none"
    return "under 0.1 %" if share < 0.0005 else "over 99.9 %" if share >= 0.9995 else f"{100 * share:.1f} %"
