"""A mended copy has no errors left, keeps the rest of the file, and its log names each change."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.data.formats.coco import read_coco_json
from detector.errors import UserError
from detector.inspect.doctor import Split
from detector.inspect.doctor.repair import plan_repair
from detector.inspect.doctor.repair_writing import common_classes, fix_paths, write_repair
from tests.inspect.doctor.made_sets import (
    checked,
    document_of,
    make_split,
    read_split,
    with_content,
    write_image,
    write_set,
)

FLAWED = {
    "a.png": [("cat", 5, 6, 30, 20), ("cat", 5, 6, 0, 20), ("dog", 70, 10, 25, 30), ("dog", 200, 10, 25, 30)],
    "b.png": [("dog", 10, 10, 20, 20), ("dog", 10, 10, 20, 20), ("cat", -5, 10, 20, 20)],
    "c.png": [("cat", 0, 0, 40, 30), ("dog", 20, 20, 40, 30)],
    "d.png": [("cat", 10, 10, 40, 30)],
    "e.png": [("cat", 10, 10, 40, 30), ("dog", 5, 5, 10, 10)],
}


def flawed_document() -> dict[str, Any]:
    document = document_of(FLAWED)
    document["annotations"][0]["id"] = 0
    document["annotations"][9]["id"] = 104  # that of annotations[3], which goes
    document["annotations"][6]["segmentation"] = [[-5, 10, 15, 10, 15, 30, -5, 30]]
    document["annotations"][6]["area"] = 123  # of the mask
    document["annotations"][7]["note"] = "keep me"
    document["categories"][0]["supercategory"] = "animal"
    document["info"] = {"year": 2024}
    document["licenses"] = [{"id": 1, "name": "none"}]
    return document


@pytest.fixture
def flawed(tmp_path: Path) -> Split:
    annotations, images = write_set(tmp_path, flawed_document())
    document = json.loads(annotations.read_text())
    del document["images"][1]["width"]
    annotations.write_text(json.dumps(document))
    (images / "d.png").unlink()
    write_image(images / "e.png", (30, 40), "half")
    return read_split(annotations, images)


def mend(split: Split, folder: Path) -> tuple[dict[str, Any], list[str]]:
    output, log = folder / "out.json", folder / "out.log"
    write_repair(plan_repair(split), output, log)
    return json.loads(output.read_text()), log.read_text().splitlines()


def test_the_log_names_each_change_by_file_and_id_with_before_and_after(flawed: Split, tmp_path: Path) -> None:
    _, log = mend(flawed, tmp_path)
    assert log == [
        "train.json: image d.png (image id 4): left out with its 1 boxes: missing",
        "train.json: image e.png (image id 5): left out with its 2 boxes: annotated 80 x 60, the file has 40 x 30 "
        "(width x height)",
        "train.json: image b.png (image id 2): size: not annotated -> 80 x 60",
        "train.json: annotations[1] (id 102, image id 1) of a.png: 'cat' at (5, 6), 0 x 20 px: removed: no area",
        "train.json: annotations[2] (id 103, image id 1) of a.png: 'dog' at (70, 10), 25 x 30 px: clipped -> at (70, "
        "10), 10 x 30 px",
        "train.json: annotations[3] (id 104, image id 1) of a.png: 'dog' at (200, 10), 25 x 30 px: removed: outside of "
        "its image; the image is 80 x 60",
        "train.json: annotations[5] (id 106, image id 2) of b.png: 'dog' at (10, 10), 20 x 20 px: removed: repeats "
        "annotations[4] (id 105, image id 2) of b.png: 'dog' at (10, 10), 20 x 20 px",
        "train.json: annotations[6] (id 107, image id 2) of b.png: 'cat' at (-5, 10), 20 x 20 px: clipped -> at (0, "
        "10), 15 x 20 px",
        "train.json: annotations[0] (id 0, image id 1) of a.png: 'cat' at (5, 6), 30 x 20 px: id 0 -> 113",
    ]


def test_the_copy_keeps_everything_else_of_the_file(flawed: Split, tmp_path: Path) -> None:
    original = json.loads(flawed.content.path.read_text())
    document, _ = mend(flawed, tmp_path)
    for key in ("info", "licenses", "categories"):
        assert document[key] == original[key]
    assert document["images"] == [
        {"id": 1, "file_name": "a.png", "width": 80, "height": 60},
        {"id": 2, "file_name": "b.png", "height": 60, "width": 80},
        {"id": 3, "file_name": "c.png", "width": 80, "height": 60},
    ]
    first, clipped, same, masked, noted, last = document["annotations"]
    assert first == {**original["annotations"][0], "id": 113}
    assert clipped == {**original["annotations"][2], "bbox": [70, 10, 10, 30], "area": 300}
    assert masked == {**original["annotations"][6], "bbox": [0, 10, 15, 20]}  # its area is the mask's
    assert [same, noted, last] == [original["annotations"][row] for row in (4, 7, 8)]
    assert json.loads(flawed.content.path.read_text()) == original


def test_the_copy_has_no_errors_left(flawed: Split, tmp_path: Path) -> None:
    assert any(finding.severity == "error" for finding in checked(flawed).values())
    mend(flawed, tmp_path)
    again = read_split(tmp_path / "out.json", flawed.content.images_dir)
    assert set(checked(again)) == {"unnamed-images"}
    assert mend(again, tmp_path)[1] == ["nothing to change"]


def test_another_format_becomes_a_coco_file_with_the_same_boxes(flawed: Split, tmp_path: Path) -> None:
    files = [f"{name}.xml" for name in FLAWED]
    ids = np.full(flawed.content.num_boxes, -1)
    _, log = mend(with_content(flawed, format="voc", box_files=files, annotation_ids=ids), tmp_path)
    assert log[3] == "a.png.xml, object 1: 'cat' at (5, 6), 0 x 20 px: removed: no area"
    content = read_coco_json(tmp_path / "out.json")
    assert list(content.file_names) == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(content.boxes[:3], [[5, 6, 30, 20], [70, 10, 10, 30], [10, 10, 20, 20]])
    assert content.annotation_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert content.sizes.tolist() == [[60, 80]] * 3


def test_clipping_that_makes_two_boxes_equal_leaves_one(tmp_path: Path) -> None:
    boxes = {"a.png": [("dog", 70, 10, 15, 30), ("dog", 70, 10, 25, 30), ("cat", 5, 5, 20, 20)]}
    document, log = mend(read_split(*write_set(tmp_path, document_of(boxes))), tmp_path)
    assert [entry["id"] for entry in document["annotations"]] == [101, 103]
    assert [line.split(": ")[3].split(" ")[0] for line in log] == ["clipped", "removed"]


def test_boxes_are_cut_without_noise_of_decimals(tmp_path: Path) -> None:
    boxes = {"a.png": [("dog", 79.7, 10.1, 0.7, 30.3), ("cat", 5, 5, 20, 20)]}
    document, _ = mend(read_split(*write_set(tmp_path, document_of(boxes))), tmp_path)
    assert document["annotations"][0]["bbox"] == [79.7, 10.1, 0.3, 30.3]


def test_mixed_up_boxes_are_not_touched() -> None:
    corners = {f"{i}.png": [("cat", 30 + i % 3, 25, 70, 55), ("dog", 40, 30, 78, 58)] for i in range(6)}
    split = make_split(corners)
    with pytest.raises(UserError, match=r"made.json: the boxes look like \(x1, y1, x2, y2\).* Convert them first"):
        plan_repair(split)


def test_nothing_is_written_where_no_image_can_be_used(tmp_path: Path) -> None:
    annotations, _ = write_set(tmp_path, document_of(FLAWED))
    with pytest.raises(UserError, match=r"train.json: no image of it can be used, so there is nothing to write"):
        plan_repair(read_split(annotations, tmp_path / "nowhere"))


def test_a_file_that_changed_meanwhile_is_not_mended(flawed: Split, tmp_path: Path) -> None:
    repair = plan_repair(flawed)
    document = json.loads(flawed.content.path.read_text())
    flawed.content.path.write_text(json.dumps(document | {"annotations": document["annotations"][:-1]}))
    with pytest.raises(UserError, match=r"train.json: the file has changed while it was checked"):
        write_repair(repair, tmp_path / "out.json", tmp_path / "out.log")


def test_datasets_without_lists_of_classes_get_one_list() -> None:
    boxes = {"a.xml.png": [("hen", 5, 6, 30, 20)]}
    train = with_content(make_split(boxes, classes=("dog", "hen")), format="voc", box_files=["a.xml"])
    val = with_content(make_split(boxes, "val", classes=("cat", "hen")), format="voc", box_files=["a.xml"])
    for split in common_classes([train, val]):
        assert split.content.categories.names == ("cat", "dog", "hen")
        assert split.content.categories.ids == (1, 2, 3)
        assert split.content.labels.tolist() == [2]
    assert common_classes([train]) == (train,)
    listed = replace(train, content=replace(train.content, format="coco", box_files=None))
    assert common_classes([listed, val]) == (listed, val)


def test_the_second_dataset_is_written_beside_the_first() -> None:
    paths = fix_paths(Path("folder/mended.json"), ["train", "val"])
    assert paths["train"] == (Path("folder/mended.json"), Path("folder/mended.log"))
    assert paths["val"] == (Path("folder/mended.val.json"), Path("folder/mended.val.log"))
    assert fix_paths(Path("a.json"), ["x", "y/val"])["y/val"] == (Path("a.y_val.json"), Path("a.y_val.log"))
    assert fix_paths(Path("v1.2"), ["data"])["data"] == (Path("v1.2"), Path("v1.2.log"))
