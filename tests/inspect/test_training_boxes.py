"""Boxes are looked at as training's own resize leaves them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.config import DataConfig, SplitConfig
from detector.data.annotations import AnnotationTable, read_annotations
from detector.data.padding import Padding
from detector.data.resize import resize_sample, resized_size
from detector.inspect.training_boxes import build_training_boxes, plan_views, scale_boxes
from detector.structures import Sample


def make_table(tmp_path: Path, sizes: list[tuple[int, int]], boxes: list[dict[str, Any]]) -> AnnotationTable:
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "annotations": [{"id": i, "category_id": 5, "iscrowd": 0, "area": 1, **box} for i, box in enumerate(boxes)],
        "categories": [{"id": 5, "name": "thing"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    return read_annotations(path)


def boxes_by_hand() -> list[dict[str, Any]]:
    return [
        {"image_id": 0, "bbox": [10.3, 20.7, 33.1, 40.9]},
        {"image_id": 2, "bbox": [1, 2, 3, 4]},
        {"image_id": 0, "bbox": [0, 0, 90, 90], "iscrowd": 1},
        {"image_id": 0, "bbox": [50, 5, 6.5, 7.5]},
    ]


def test_boxes_equal_those_of_resized_samples_and_crowds_are_left_out(tmp_path: Path) -> None:
    table = make_table(tmp_path, [(97, 131), (50, 50), (301, 203)], boxes_by_hand())
    found = scale_boxes(table, np.arange(3), np.array([80, 80, 111]), max_side=150, padding=Padding(32))
    expected = []
    for row, short_side in ((0, 80), (2, 111)):
        height, width = table.sizes[row].tolist()
        rows = slice(*table.box_offsets[row : row + 2].tolist())
        kept = ~table.ignore[rows].numpy()
        sample = Sample(
            image=np.zeros((height, width, 3), dtype=np.uint8),
            boxes=table.boxes[rows].numpy()[kept],
            labels=table.labels[rows].numpy()[kept],
            ignore=np.zeros(int(kept.sum()), dtype=np.bool_),
            image_id=row,
            original_size=(height, width),
        )
        expected.append(resize_sample(sample, resized_size((height, width), short_side, 150)).boxes)
    np.testing.assert_array_equal(found.boxes, np.concatenate(expected))
    assert found.views.tolist() == [0, 0, 2]
    assert found.sizes.tolist() == [[80, 108], [80, 80], [150, 101]]
    assert found.padded_sizes.tolist() == [[96, 128], [96, 96], [160, 128]]
    np.testing.assert_array_equal(table.boxes[found.rows].numpy()[2], [1, 2, 4, 6])


def test_a_box_counts_once_for_every_short_side_that_training_draws() -> None:
    images, sides = plan_views(np.array([3, 8]), 10, (64, 72, 80), max_viewed_boxes=30)
    assert images.tolist() == [3, 3, 3, 8, 8, 8]
    assert sides.tolist() == [64, 72, 80] * 2


def test_with_many_boxes_the_images_take_the_short_sides_in_turn() -> None:
    images, sides = plan_views(np.arange(5), 10, (64, 72, 80), max_viewed_boxes=29)
    assert images.tolist() == [0, 1, 2, 3, 4]
    assert sides.tolist() == [64, 72, 80, 64, 72]


@pytest.mark.parametrize(("max_boxes", "images"), [(None, [0, 1, 2, 3, 4, 5]), (6, [0, 1, 2, 3, 4, 5]), (3, [0, 2, 5])])
def test_a_sample_is_of_evenly_spaced_images(tmp_path: Path, max_boxes: int | None, images: list[int]) -> None:
    boxes = [{"image_id": i, "bbox": [1, 1, 20, 20]} for i in range(6)]
    table = make_table(tmp_path, [(64, 64)] * 6, boxes)
    split = SplitConfig(annotations="a.json", images="a")
    data = DataConfig(train=split, val=split, short_side=(64,), max_side=64)
    assert build_training_boxes(data, table, max_boxes).images.tolist() == images


def test_a_dataset_without_boxes_has_none(tmp_path: Path) -> None:
    table = make_table(tmp_path, [(64, 64)], [])
    found = scale_boxes(table, np.arange(1), np.array([64]), max_side=64, padding=Padding(32))
    assert (len(found), found.boxes.shape, found.sides.shape) == (0, (0, 4), (0,))
