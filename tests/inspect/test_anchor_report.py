"""The report names what it counts."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detector.inspect.anchor_coverage import Coverage
from detector.inspect.anchor_report import format_coverage
from tests.inspect.anchor_cases import SQUARES, square, study_of


class Table:
    """What the report reads of an annotation table."""

    def __init__(self, boxes: Any, names: list[str]) -> None:
        self.boxes = torch.tensor(boxes, dtype=torch.float32)
        self.categories = type("Categories", (), {"names": names})


def report(coverage: Coverage, names: list[str], zoom: float = 1.0) -> str:
    return format_coverage(coverage, Table(coverage.training.boxes * zoom, names), SQUARES)  # type: ignore[arg-type]


def row_of(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()


def test_every_number_stands_in_the_row_of_its_group() -> None:
    boxes = [square(128, 128, 64), square(320, 320, 6, 60), square(320, 128, 32), square(128, 320, 64)]
    text = report(study_of(boxes, [0, 1, 0, 0]).measure(SQUARES), ["disc", "rod"])
    assert row_of(text, "disc") == ["disc", "3", "1.000", "100", "%", "none", "none", "1"]
    assert row_of(text, "rod")[:6] == ["rod", "1", "0.185", "none", "100", "%"]
    assert text.index("\nrod") < text.index("\ndisc")  # the worst first
    assert row_of(text, "small")[1] == "1"  # 6 x 60
    assert row_of(text, "medium")[1] == "3"
    assert row_of(text, "16-32 px")[2] == "1"
    assert row_of(text, "64-128 px")[2] == "2"
    assert row_of(text, "P5")[1:3] == ["2", "1.000"]
    assert "matched        75.0 % by IoU >= 0.5, 25.0 % only by the low-quality rule, none without an anchor" in text
    assert "4 objects in 1 images, resized as in training, not augmented" in text
    assert "foreground : other anchors = 1 : " in text


def test_cocos_sizes_are_those_of_the_image_not_of_training() -> None:
    text = report(study_of([square(128, 128, 64)]).measure(SQUARES), ["disc"], zoom=2.0)
    assert row_of(text, "large")[1] == "1"
    assert row_of(text, "64-128 px")[2] == "1"


def test_many_tiny_boxes_ask_for_a_larger_short_side() -> None:
    def tiny(number: int) -> str:
        boxes = [square(128, 128, 64)] * 95 + [square(64 + 4 * i, 64, 5) for i in range(number)]
        return report(study_of(boxes).measure(SQUARES), ["disc"])

    assert "5.0 % of the boxes are below 8 px; a larger data.short_side helps" in tiny(5)
    assert "short_side" not in tiny(4)


def test_of_many_classes_the_worst_are_shown() -> None:
    labels = list(range(30))
    boxes = [square(100 + 8 * i, 128, 64) if i % 2 else square(100 + 8 * i, 400, 4, 70) for i in labels]
    text = report(study_of(boxes, labels).measure(SQUARES), [f"class {i}." for i in labels])
    assert "the worst 20 of 30 classes" in text
    assert text.count("\nclass ") == 20
    assert all(f"\nclass {i}. " in text for i in range(0, 30, 2))


def test_boxes_that_lose_their_anchors_to_others_are_counted() -> None:
    # Both lie on the same anchor; the second fits it less, and no other.
    boxes = [square(128, 128, 64), square(128, 128, 60)]
    coverage = study_of(boxes, low_quality=False).measure(SQUARES)
    assert "; lost all fitting anchors to overlapping boxes: 1" in report(coverage, ["disc"])


def test_nothing_foreground_is_said_and_views_are_counted() -> None:
    study = study_of([square(320, 320, 6, 60)] * 2, low_quality=False)
    training = replace(
        study.training,
        rows=np.zeros(2, dtype=np.int64),
        views=np.arange(2),
        images=np.zeros(2, dtype=np.int64),
        sizes=np.repeat(study.training.sizes, 2, axis=0),
        padded_sizes=np.repeat(study.training.sizes, 2, axis=0),
    )
    text = report(replace(study, training=training).measure(SQUARES), ["rod"])
    assert "imbalance      none of 10,912 anchors is foreground" in text
    assert "1 objects in 1 images, resized as in training, not augmented; each at 2 short sides" in text
