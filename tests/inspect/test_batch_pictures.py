"""What is said about the images of a batch is what the batch and its targets hold."""

import json
from pathlib import Path

import pytest
import torch

from detector.anchors import build_anchor_generator
from detector.assign import assign_anchors
from detector.config_io import load_config
from detector.data.loader import build_eval_loader
from detector.data.opening import open_split
from detector.inspect.batch_pictures import BatchPicture, draw_batch
from detector.structures import AnchorTargets, Batch
from tests.engine.tiny import make_dataset, write_config


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[list[BatchPicture], Batch, AnchorTargets]:
    make_dataset(tmp_path / "data")
    path = tmp_path / "data/annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    config = load_config(write_config(tmp_path, tmp_path / "data"), ["model.anchors.sizes=[16,32,64,128,256]"])
    split = open_split(config.data, 0, "train")
    batch = next(iter(build_eval_loader(config.data, split.dataset, short_side=64, batch_size=4)))
    generator = build_anchor_generator(config.model.anchors)
    anchors = generator(generator.feature_shapes((batch.images.shape[1], batch.images.shape[2])))
    targets = assign_anchors(anchors, batch.gt_boxes, batch.gt_labels, batch.gt_mask, batch.gt_ignore)
    return draw_batch(batch, anchors, targets, split), batch, targets


def test_counts_are_those_of_the_targets(drawn: tuple[list[BatchPicture], Batch, AnchorTargets]) -> None:
    pictures, batch, targets = drawn
    assert len(pictures) == len(batch.image_ids)
    for i, picture in enumerate(pictures):
        assert picture.file_name == f"{batch.image_ids[i] - 100}.png"
        assert picture.name == f"{picture.file_name} (image id {batch.image_ids[i]})"
        assert picture.size == tuple(batch.sizes[i].tolist())
        assert picture.padded_size == tuple(batch.images.shape[1:3])
        assert len(picture.num_anchors) == int(batch.gt_mask[i].sum())
        assert sum(picture.num_anchors) == int(targets.num_foreground[i])
        assert picture.num_ignored == int(batch.gt_ignore[i].sum())
    assert sum(picture.num_ignored for picture in pictures) == 1


def test_pictures_are_enlarged_by_a_whole_number(drawn: tuple[list[BatchPicture], Batch, AnchorTargets]) -> None:
    for picture in drawn[0]:
        zoom = 1000 // max(picture.padded_size)
        assert picture.picture.shape == (picture.padded_size[0] * zoom, picture.padded_size[1] * zoom, 3)


def facts(num_anchors: tuple[int, ...], num_ignored: int = 0) -> str:
    empty = torch.zeros(1, 1, 3, dtype=torch.uint8).numpy()
    return BatchPicture("a.png", "a.png", (60, 80), (64, 96), num_anchors, num_ignored, empty).facts


def test_the_facts_of_an_image_are_one_line() -> None:
    assert facts(()) == "60x80 in 64x96, 0 boxes"
    assert facts((5,)) == "60x80 in 64x96, 1 box, 5 anchors, 5 a box"
    assert facts((5, 0, 9), 1) == "60x80 in 64x96, 3 boxes, 14 anchors, 0-9 a box, 1 without an anchor, 1 ignore region"
