"""detector/data/largest_batch.py against the batches that the sampler deals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from detector.config import DataConfig
from detector.data.annotations import AnnotationTable, read_annotations
from detector.data.largest_batch import LargestBatch, build_largest_batch
from detector.data.padding import Padding
from detector.data.samplers import TrainSampler


def data_config(**changes: object) -> DataConfig:
    values: dict[str, Any] = {"train": {"path": "x"}, "holdout": {}, "short_side": (64, 80), "max_side": 133}
    return DataConfig(**{**values, **changes})


def table_of(folder: Path, sizes: list[tuple[int, int]], boxes_per_image: list[int]) -> AnnotationTable:
    images = [{"id": i, "file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(sizes)]
    owners = [i for i, count in enumerate(boxes_per_image) for _ in range(count)]
    annotations = [
        {"id": number, "image_id": i, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for number, i in enumerate(owners)
    ]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 5, "name": "c"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(content))
    return read_annotations(folder / "a.json")


@pytest.mark.parametrize("aspect_grouping", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_no_batch_that_is_dealt_is_larger_and_one_is_as_large(tmp_path: Path, aspect_grouping: bool, seed: int) -> None:
    drawn = torch.randint(20, 200, (12, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    table = table_of(tmp_path, [(h, w) for h, w in drawn], [1] * 12)
    data = data_config(aspect_grouping=aspect_grouping, pad_multiple=16)
    largest = build_largest_batch(data, table).size
    sampler = TrainSampler(
        table.sizes,
        batch_size=12,  # so many images of twelve that the tallest and the widest meet
        seed=seed,
        short_sides=(80,),
        max_side=133,
        padding=Padding(16),
        aspect_grouping=aspect_grouping,
    )
    areas = []
    for step in range(30):
        height, width = sampler.global_batch(step)[0].padded_size
        areas.append(height * width)
    assert max(areas) == largest[0] * largest[1]


def test_it_has_the_boxes_of_the_fullest_image_and_the_classes_of_the_dataset(tmp_path: Path) -> None:
    largest = build_largest_batch(data_config(), table_of(tmp_path, [(60, 80), (80, 60), (60, 60)], [2, 7, 0]))
    assert (largest.num_boxes, largest.num_classes) == (7, 3)


def test_with_buckets_it_is_the_largest_of_them(tmp_path: Path) -> None:
    data = data_config(buckets=((160, 96), (128, 144), (96, 160)))
    assert build_largest_batch(data, table_of(tmp_path, [(60, 80)], [1])).size == (128, 144)


def test_what_is_made_is_a_batch_of_that_size_and_moves_no_random_state() -> None:
    state = torch.get_rng_state()
    batch = LargestBatch((64, 96), num_boxes=5, num_classes=3).make(2)
    assert torch.equal(state, torch.get_rng_state())
    assert batch.images.shape == (2, 64, 96, 3)
    assert batch.sizes.tolist() == [[64, 96], [64, 96]]
    assert batch.gt_mask.all()
    assert not batch.gt_ignore.any()
    assert int(batch.gt_labels.max()) < 3
    x1, y1, x2, y2 = batch.gt_boxes.unbind(dim=2)
    assert (torch.stack((x1, y1)) >= 0).all()
    assert (x2 <= 96).all()
    assert (y2 <= 64).all()
    assert (torch.minimum(x2 - x1, y2 - y1) >= 7.99).all()
    assert_close(batch.gt_boxes, LargestBatch((64, 96), 5, 3).make(2).gt_boxes, rtol=0, atol=0)


def test_a_dataset_without_boxes_gives_a_batch_without_boxes(tmp_path: Path) -> None:
    batch = build_largest_batch(data_config(), table_of(tmp_path, [(60, 80)], [0])).make(1)
    assert batch.gt_boxes.shape == (1, 0, 4)
    assert batch.gt_mask.shape == (1, 0)
