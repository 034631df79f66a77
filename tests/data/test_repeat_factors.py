"""Repeat factors by the definition of LVIS, and what becomes of them in loader, schedule and report."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.config import DataConfig, SplitConfig
from detector.data.annotations import AnnotationTable, read_annotations
from detector.data.padding import Padding
from detector.data.repeat_factors import (
    RepeatFactors,
    build_repeat_factors,
    compute_repeat_factors,
    describe_repeat_factors,
)
from detector.data.samplers import TrainSampler
from detector.structures import Categories

NUM_CLASSES = 4
objects = st.lists(st.tuples(st.integers(0, 9), st.integers(0, NUM_CLASSES - 1)), max_size=30)


def data_config(**changes: Any) -> DataConfig:
    split = SplitConfig(annotations="a.json", images="images")
    return DataConfig(train=split, val=split, **changes)


def write_table(folder: Path, boxes: list[tuple[int, int, int]], num_images: int = 10) -> AnnotationTable:
    """Write (image id, category id, iscrowd) with one box each, every third image portrait."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 60 if i % 3 == 0 else 30}
            for i in range(num_images)
        ],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": [1, 1, 9, 9], "iscrowd": crowd}
            for image, category, crowd in boxes
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 11, "name": "eel"}],
    }
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")
    return read_annotations(folder / "a.json")


@given(objects, st.floats(0.01, 0.99))
def test_factors_are_those_of_the_definition(pairs: list[tuple[int, int]], thresh: float) -> None:
    rows = np.array([image for image, _ in pairs], dtype=np.int64)
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    of_image, of_class, num_images = compute_repeat_factors(rows, labels, (10, NUM_CLASSES), thresh)
    images_with = [{image for image, label in pairs if label == c} for c in range(NUM_CLASSES)]
    assert num_images.tolist() == [len(found) for found in images_with]
    expected = [max(1.0, math.sqrt(thresh / (len(found) / 10))) if found else 1.0 for found in images_with]
    assert of_class.tolist() == expected
    for image in range(10):
        own = [expected[label] for row, label in pairs if row == image]
        assert of_image[image] == max(own, default=1.0)


def test_a_class_in_a_tenth_of_what_is_asked_for_is_repeated_three_times() -> None:
    rows, labels = np.arange(100), np.array([1] + [0] * 99)
    of_image, of_class, _ = compute_repeat_factors(rows, labels, (100, 2), 0.1)
    assert of_class.tolist() == pytest.approx([1.0, math.sqrt(10)])
    assert of_image[:3].tolist() == pytest.approx([math.sqrt(10), 1.0, 1.0])


def test_crowds_do_not_count_as_containing_a_class(tmp_path: Path) -> None:
    boxes = [(i, 5, 0) for i in range(10)] + [(1, 9, 0), (2, 9, 1), (3, 11, 1)]
    repeats = build_repeat_factors(data_config(repeat_thresh=0.4), write_table(tmp_path, boxes))
    assert repeats is not None
    assert repeats.num_images.tolist() == [10, 1, 0]
    assert repeats.of_class.tolist() == [1.0, 2.0, 1.0]
    assert repeats.of_image.tolist() == [1.0, 2.0] + [1.0] * 8
    assert repeats.images_per_epoch == 11


@pytest.mark.parametrize(("aspect_grouping", "expected"), [(True, 10), (False, 11)])
def test_the_length_of_an_epoch_is_rounded_by_orientation(tmp_path: Path, aspect_grouping: bool, expected: int) -> None:
    # dog and eel are in one image each: sqrt(0.2 / 0.1) = 1.41. Portrait are 0, 3, 6, 9: 4.41 -> 4; the others: 6.41
    # -> 6; together 10.83 -> 11.
    data = data_config(repeat_thresh=0.2, aspect_grouping=aspect_grouping)
    table = write_table(tmp_path, [(0, 9, 0), (1, 11, 0), *((i, 5, 0) for i in range(10))])
    repeats = build_repeat_factors(data, table)
    assert repeats is not None
    assert repeats.images_per_epoch == expected


def test_without_a_threshold_there_are_no_factors(tmp_path: Path) -> None:
    assert build_repeat_factors(data_config(), write_table(tmp_path, [(0, 5, 0)])) is None


def sampler(repeats: RepeatFactors, table: AnnotationTable, **changes: Any) -> TrainSampler:
    arguments: dict[str, Any] = {
        "batch_size": 4,
        "seed": 3,
        "short_sides": (30,),
        "max_side": 60,
        "padding": Padding(32),
        "repeat_factors": repeats.of_image,
    }
    return TrainSampler(table.sizes, **{**arguments, **changes})


def test_processes_see_the_same_repeated_images_and_resume_where_they_stopped(tmp_path: Path) -> None:
    boxes = [(i, 5, 0) for i in range(10)] + [(1, 9, 0), (6, 9, 0), (3, 11, 0)]
    table = write_table(tmp_path, boxes)
    repeats = build_repeat_factors(data_config(repeat_thresh=0.9), table)
    assert repeats is not None
    whole = list(islice(sampler(repeats, table), 20))
    ranks = [list(islice(sampler(repeats, table, rank=rank, num_processes=2), 20)) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole
    assert list(islice(sampler(repeats, table, start_step=13), 7)) == whole[13:]
    for batch in whole:
        assert len({key.index % 3 == 0 for key in batch}) == 1
    seen = np.bincount([key.index for batch in whole for key in batch], minlength=10)
    assert seen[3] > 2 * seen[0]  # image 3: sqrt(0.9 / 0.1) = 3 times


def test_the_report_names_the_rarest_classes() -> None:
    names = ("a", "b", "c", "d", "e", "f", "g", "h")
    of_class = np.array([1.0, 2.0, 4.2426, 1.05, 1.2, 1.5, 3.0, 1.0])
    repeats = RepeatFactors(np.ones(1200), of_class, np.arange(8) * 10, 1311)
    assert describe_repeat_factors(repeats, Categories(tuple(range(8)), names)) == (
        "repeat factors: 6 of 8 classes repeated up to 4.24 times, 1,200 -> 1,311 images an epoch; rarest: "
        "c 4.24 (20 images), g 3 (60 images), b 2 (10 images), f 1.5 (50 images), e 1.2 (40 images)"
    )
    nothing = RepeatFactors(np.ones(5), np.ones(2), np.array([5, 5]), 5)
    assert describe_repeat_factors(nothing, Categories((1, 2), ("a", "b"))) == (
        "repeat factors: none, as no class is in less than data.repeat_thresh of the images"
    )
