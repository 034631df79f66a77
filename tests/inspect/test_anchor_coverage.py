"""What is counted of a coverage, against counts by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from detector.config_io import load_config
from detector.data.annotations import read_annotations
from detector.inspect.anchor_coverage import group_boxes
from detector.inspect.anchor_summary import build_anchor_summary, percent, summarise_coverage
from tests.engine.tiny import make_dataset, write_config
from tests.inspect.anchor_cases import SQUARES, square, study_of


def test_boxes_are_reached_rescued_or_unmatched() -> None:
    # On an anchor; a sliver far from every anchor's shape; the same sliver again, whose anchors the first one keeps.
    boxes = [square(128, 128, 64), square(320, 320, 6, 60), square(320, 320, 6, 60)]
    coverage = study_of(boxes).measure(SQUARES)
    assert coverage.is_reached.tolist() == [True, False, False]
    assert coverage.is_rescued.tolist() == [False, True, False]
    assert coverage.is_unmatched.tolist() == [False, False, True]
    assert coverage.matches.best_iou[0] == 1
    assert coverage.matches.best_levels[0] == 2
    # The sliver and the anchor of 16 px around its centre share 6 x 16.
    assert coverage.matches.best_iou[1] == pytest.approx(96 / (360 + 256 - 96))
    assert coverage.num_anchors == 64**2 + 32**2 + 16**2 + 8**2 + 4**2


def test_without_the_low_quality_rule_nothing_is_rescued() -> None:
    coverage = study_of([square(320, 320, 6, 60)], low_quality=False).measure(SQUARES)
    assert not coverage.is_rescued.any()
    assert coverage.is_unmatched.all()


def test_groups_hold_the_numbers_of_their_boxes() -> None:
    boxes = [square(128, 128, 64), square(320, 320, 6, 60), square(320, 128, 32), square(128, 320, 64)]
    coverage = study_of(boxes).measure(SQUARES)
    first, second = group_boxes(coverage, np.array([0, 0, 2, 2]), ("mixed", "empty", "fitting"))
    assert (first.name, first.num_boxes, first.reached, first.rescued, first.unmatched) == ("mixed", 2, 0.5, 0.5, 0.0)
    assert (second.name, second.num_boxes, second.reached, second.mean_iou) == ("fitting", 2, 1.0, 1.0)
    assert first.mean_iou == pytest.approx(float(coverage.matches.best_iou[:2].mean()))
    assert second.median_positives == np.median(coverage.matches.num_positives[2:])


def test_the_worst_class_has_enough_boxes_to_judge_it() -> None:
    good, bad = square(128, 128, 64), square(320, 320, 6, 60)
    labels = [0] * 12 + [1] * 20 + [4]
    coverage = study_of([good] * 9 + [bad] * 3 + [good] * 19 + [bad] + [bad], labels).measure(SQUARES)
    assert coverage.class_shares() == {0: 0.75, 1: 0.95, 4: 0.0}
    assert coverage.worst_class() == 0
    few = study_of([good, bad], [2, 3]).measure(SQUARES)
    assert few.worst_class() == 3


def test_the_summary_says_what_was_counted() -> None:
    coverage = study_of([square(128, 128, 64)] * 15 + [square(320, 320, 6, 60)], [0] * 15 + [1]).measure(SQUARES)
    text = summarise_coverage(coverage, ["disc", "rod"])
    assert text.startswith("anchors: 93.8 % of 16 boxes have an anchor with IoU >= 0.5 (median 0 anchors a box); ")
    assert "6.2 % only by the low-quality rule, 87.5 % without" in text  # of equal boxes the first keeps the anchors
    assert text.endswith("; worst class disc 100 %; see fit-anchors")
    assert "worst class" not in summarise_coverage(study_of([square(9, 9, 16)]).measure(SQUARES), ["disc", "rod"])
    assert (
        summarise_coverage(study_of([]).measure(SQUARES), ["disc"]) == "anchors: there are no boxes for them to match"
    )


def test_a_configuration_is_summed_up_for_its_dataset(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, make_dataset(tmp_path / "data")))
    table = read_annotations(tmp_path / "data/annotations.json")
    num_boxes = len(json.loads((tmp_path / "data/annotations.json").read_text())["annotations"])
    text = build_anchor_summary(config, table)
    assert re.match(rf"anchors: [\d.]+ % of {num_boxes} boxes have an anchor with IoU >= 0.5 \(median \d+", text)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "none"),
        (1.0, "100 %"),
        (0.0004, "under 0.1 %"),
        (0.0005, "0.1 %"),
        (0.9994, "99.9 %"),
        (0.9996, "over 99.9 %"),
        (0.123, "12.3 %"),
    ],
)
def test_only_all_is_a_hundred_percent_and_only_nothing_is_none(share: float, text: str) -> None:
    assert percent(share) == text
