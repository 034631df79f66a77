"""Boxes that no anchor fits are drawn with the best anchor, the worst image first."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from detector.config_io import load_config
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.inspect.anchor_coverage import Coverage, build_anchor_study
from detector.inspect.anchor_shapes import build_shapes
from detector.inspect.misfit_pictures import ANCHOR_COLOR, BOX_COLOR, draw_misfits
from tests.engine.tiny import write_config

BOXES = {0: [[20, 20, 30, 30]], 1: [[4, 40, 90, 3], [20, 20, 30, 30]], 2: [[50, 30, 4, 4], [10, 10, 5, 60]]}
"""Of three images, xywh: one that anchors of 16 px and more fit; a long one; a tiny one and a long one."""


def open_grey(tmp_path: Path) -> tuple[DetectionDataset, Coverage]:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for i in BOXES:
        Image.new("RGB", (100, 80), (90, 90, 90)).save(folder / f"images/{i}.png")
    annotations = [
        {"id": 10 * i + j, "image_id": i, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
        for i, boxes in BOXES.items()
        for j, box in enumerate(boxes)
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in BOXES],
        "categories": [{"id": 1, "name": "rod"}],
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    config = load_config(write_config(tmp_path, folder))
    dataset = open_coco_dataset(folder / "annotations.json", folder / "images")
    coverage = build_anchor_study(config, dataset.table).measure(build_shapes(config.model.anchors))
    return dataset, coverage


def test_images_with_misfits_come_worst_first_and_once(tmp_path: Path) -> None:
    dataset, coverage = open_grey(tmp_path)
    rows = [picture.row for picture in draw_misfits(dataset, coverage, max_pictures=10)]
    worst = [float(coverage.matches.best_iou[coverage.training.views // 2 == row].min()) for row in rows]  # two sides
    assert sorted(rows) == [1, 2]
    assert worst == sorted(worst)
    assert [picture.row for picture in draw_misfits(dataset, coverage, max_pictures=1)] == rows[:1]


def test_the_box_is_red_and_its_best_anchor_yellow_in_both_pictures(tmp_path: Path) -> None:
    dataset, coverage = open_grey(tmp_path)
    for picture in draw_misfits(dataset, coverage, max_pictures=10):
        middle = picture.picture.shape[1] // 2
        for half in (picture.picture[:, :middle], picture.picture[:, middle:]):
            for color in (BOX_COLOR, ANCHOR_COLOR):
                assert (half == np.array(color)).all(axis=2).sum() > 20
