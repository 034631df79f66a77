"""Annotations are read right, and every flaw of a file is named."""

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detector.data.annotations import build_table, read_annotations
from detector.data.formats.coco import read_coco_json
from detector.data.packed import PackedStrings
from detector.errors import UserError


def coco() -> dict[str, Any]:
    """Two images of 40 x 60 pixels (height x width), two classes, three boxes listed out of the images' order."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40},
            {"id": 0, "file_name": "sub/b.jpg", "width": 60, "height": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 0, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 18, "bbox": [10, 20, 5, 6], "iscrowd": 1, "area": 30},
            {"id": 2, "image_id": 7, "category_id": 0, "bbox": [1.5, 2, 3, 4]},
            {"id": 3, "image_id": 0, "category_id": 0, "bbox": [0, 0, 60, 40], "iscrowd": 0},
        ],
    }


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def with_boxes(*boxes: list[float]) -> dict[str, Any]:
    content = coco()
    content["annotations"] = [{"image_id": 7, "category_id": 0, "bbox": box} for box in boxes]
    return content


def test_boxes_become_xyxy_and_are_grouped_by_image_in_the_files_order(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path, coco()))
    assert table.image_ids.tolist() == [7, 0]
    assert table.sizes.tolist() == [[40, 60], [40, 60]]
    assert list(table.file_names) == ["a.jpg", "sub/b.jpg"]
    assert table.box_offsets.tolist() == [0, 1, 3]
    expected = torch.tensor([[1.5, 2, 4.5, 6], [10, 20, 15, 26], [0, 0, 60, 40]])
    torch.testing.assert_close(table.boxes, expected, rtol=0, atol=0)
    assert table.ignore.tolist() == [False, True, False]
    assert table.problems.num_changed == 0


def test_flaws_in_a_format_without_image_ids_are_named_by_file(tmp_path: Path) -> None:
    content = read_coco_json(write(tmp_path, with_boxes([1, 1, 0, 5], [2, 2, 5, 5])))
    table = build_table(replace(content, format="voc"))
    assert str(table.problems) == "boxes for training: 1 without area dropped (a.jpg)"


def test_labels_are_contiguous_in_the_order_of_category_ids_with_gaps_and_zero(tmp_path: Path) -> None:
    content = coco()
    content["categories"].append({"id": 5, "name": "without boxes"})
    table = read_annotations(write(tmp_path, content))
    assert table.categories.ids == (0, 5, 18)
    assert table.categories.names == ("cat", "without boxes", "dog")
    assert table.labels.tolist() == [0, 2, 0]
    assert table.labels.dtype == torch.int64


def test_boxes_find_their_images_among_ids_in_any_order(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).permutation(200)[:100].tolist()
    content = coco()
    content["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": 999, "height": 999} for i in ids]
    content["annotations"] = [{"image_id": i, "category_id": 0, "bbox": [i, 0, 5, 5]} for i in sorted(ids)]
    table = read_annotations(write(tmp_path, content))
    assert table.boxes[:, 0].tolist() == ids


def test_images_without_boxes_have_an_empty_range(tmp_path: Path) -> None:
    content = coco()
    content["images"].insert(1, {"id": 3, "file_name": "none.jpg", "width": 9, "height": 9})
    table = read_annotations(write(tmp_path, content))
    assert table.box_offsets.tolist() == [0, 1, 1, 3]


def test_a_file_without_any_box_is_read(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path, with_boxes()))
    assert table.boxes.shape == (0, 4)
    assert table.box_offsets.tolist() == [0, 0, 0]
    assert table.problems.num_changed == 0


def test_all_tensors_are_in_shared_memory(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path, coco()))
    tensors = [table.image_ids, table.sizes, table.boxes, table.labels, table.ignore, table.box_offsets]
    assert all(tensor.is_shared() for tensor in [*tensors, table.file_names.blob, table.file_names.offsets])


def test_whole_floats_and_nulls_are_accepted_where_they_mean_something(tmp_path: Path) -> None:
    content = coco()
    content["images"][0] |= {"width": 60.0, "height": 40.0}
    content["annotations"][1] |= {"iscrowd": None, "area": None, "segmentation": [[1.0, 2.0]], "id": None}
    table = read_annotations(write(tmp_path, content))
    assert table.sizes[0].tolist() == [40, 60]
    assert not table.ignore[0]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_text(json.dumps(coco()), encoding="utf-8-sig")
    assert len(read_annotations(path)) == 2


def test_degenerate_boxes_are_dropped_and_counted(tmp_path: Path) -> None:
    content = with_boxes(
        [1, 1, 0, 5], [1, 1, 5, -2], [1, 1, 0.001, 5], [float("nan"), 1, 5, 5], [1, 1, float("inf"), 5], [1, 1, 5, 5]
    )
    content["annotations"][0]["image_id"] = 0
    table = read_annotations(write(tmp_path, content))
    assert table.boxes.tolist() == [[1, 1, 6, 6]]
    assert table.problems.degenerate.num_boxes == 5
    assert table.problems.degenerate.images == (7, 0)
    assert str(table.problems) == "boxes for training: 5 without area dropped (image id 7, 0)"


def test_boxes_outside_are_clipped_or_dropped_and_counted(tmp_path: Path) -> None:
    table = read_annotations(
        write(tmp_path, with_boxes([-5, -5, 10, 10], [50, 30, 100, 100], [70, 1, 5, 5], [-5, 1, 5, 5], [1, 1, 2, 2]))
    )
    assert table.boxes.tolist() == [[0, 0, 5, 5], [50, 30, 60, 40], [1, 1, 3, 3]]
    assert table.problems.clipped.num_boxes == 2
    assert table.problems.outside.num_boxes == 2
    assert table.problems.degenerate.num_boxes == 0
    assert table.problems.num_changed == 4
    assert "2 outside the image dropped (image id 7); 2 clipped to the image" in str(table.problems)


def test_rounded_decimals_at_the_border_are_clipped_without_being_counted(tmp_path: Path) -> None:
    table = read_annotations(write(tmp_path, with_boxes([50.33, 30, 9.675, 10.004])))
    torch.testing.assert_close(table.boxes[0, 2:], torch.tensor([60.0, 40.0]), rtol=0, atol=0)
    assert table.problems.num_changed == 0
    assert str(table.problems) == "boxes for training: all as they are in the file"


def test_at_most_five_images_are_named(tmp_path: Path) -> None:
    content = with_boxes(*[[0, 0, 0, 0]] * 8)
    content["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in range(8)]
    for image_id, entry in enumerate(content["annotations"]):
        entry["image_id"] = image_id
    problem = read_annotations(write(tmp_path, content)).problems.degenerate
    assert problem.images == (0, 1, 2, 3, 4)
    assert str(problem) == "(image id 0, 1, 2, 3, 4, ...)"


def test_cleaning_agrees_with_a_loop_over_single_boxes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-60, 80, (400, 4)).round(1)
    table = read_annotations(write(tmp_path, with_boxes(*boxes.tolist())))
    expected, num_clipped = [], 0
    for x, y, w, h in boxes.tolist():
        if w < 0.01 or h < 0.01:
            continue
        box = (max(x, 0), max(y, 0), min(x + w, 60), min(y + h, 40))
        if box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01:
            expected.append(box)
            num_clipped += box != (x, y, x + w, y + h)
    assert 20 < len(expected) < 380
    torch.testing.assert_close(table.boxes, torch.tensor(expected))
    assert table.problems.clipped.num_boxes == num_clipped


def test_missing_sizes_are_read_from_the_images_as_they_will_be_decoded(tmp_path: Path) -> None:
    content = coco()
    content["images"][0] = {"id": 7, "file_name": "a.jpg"}
    content["images"][1] |= {"width": None}
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    Image.new("RGB", (60, 40)).save(tmp_path / "sub/b.jpg", exif=exif)
    table = read_annotations(write(tmp_path, content), tmp_path)
    assert table.sizes.tolist() == [[20, 30], [60, 40]]
    assert table.problems.clipped.num_boxes == 1  # [0, 0, 60, 40] in an image that is 40 wide


def test_missing_sizes_without_a_folder_are_an_error(tmp_path: Path) -> None:
    content = coco()
    del content["images"][1]["height"]
    with pytest.raises(UserError, match=r"instances.json: images\[1\] \(id 0\): 'width' or 'height' is missing"):
        read_annotations(write(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "instances.json: the annotation file is empty"),
        (" \n", "instances.json: the annotation file is empty"),
        ('{"images": [\n1,, 2]}', r"instances.json:2:3: the annotation file is no valid JSON: Expecting value"),
        ("[]", "the top level is 0 entries .list., expected an object with the keys 'images'"),
        ("3", "the top level is 3 .integer., expected an object"),
        ("[" * 100_000, "the annotation file is no valid JSON: .*recursion"),
        ('{"images": []}', "key 'categories' is missing, expected a list of objects"),
        ('{"categories": [], "annotations": []}', "key 'images' is missing"),
        ('{"images": {}, "categories": [], "annotations": []}', "key 'images' is 0 entries .object., expected a list"),
        ('{"images": [], "categories": [], "annotations": []}', "key 'images' is an empty list"),
        ('{"images": [{}], "categories": [], "annotations": []}', "key 'categories' is an empty list"),
        ('{"images": [{}, null], "categories": [], "annotations": []}', r"images\[1\] is null, expected an object"),
        ('{"images": [{}], "categories": [{}]}', "key 'annotations' is missing"),
    ],
)
def test_files_that_are_no_coco_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_annotations(write(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.json"
    path.write_bytes(b'{"images": "\xff\xfe\xfa"}')
    with pytest.raises(UserError, match=r"photo.json: the annotation file is no valid JSON"):
        read_annotations(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.json: cannot read the annotation file: No such file"):
        read_annotations(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot read the annotation file: Is a directory"):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("images", {"id": None}, r"images\[1\]: key 'id' is null, expected an integer"),
        ("images", {"id": "0"}, r"images\[1\]: key 'id' is '0' \(string\), expected an integer"),
        ("images", {"id": True}, r"key 'id' is true \(boolean\), expected an integer"),
        ("images", {"id": 1.5}, r"key 'id' is 1.5 \(number\), expected an integer"),
        ("images", {"id": 2**63}, r"key 'id' is 9223372036854775808 \(integer\), expected an integer"),
        ("images", {"id": 7}, r"images\[1\]: key 'id' is 7, which images\[0\] has already"),
        ("images", {"file_name": None}, r"images\[1\] \(id 0\): key 'file_name' is null, expected a string"),
        ("images", {"file_name": ""}, r"key 'file_name' is '' \(string\), expected a string"),
        ("images", {"file_name": "../b.jpg"}, r"\(id 0\): key 'file_name' is '../b.jpg' .* inside the image folder"),
        ("images", {"file_name": "sub/../../b.jpg"}, "expected a path inside the image folder"),
        ("images", {"file_name": "..\\b.jpg"}, "expected a path inside the image folder"),
        ("images", {"file_name": "/etc/b.jpg"}, "expected a path inside the image folder"),
        ("images", {"file_name": "b\0.jpg"}, "expected a path inside the image folder"),
        ("images", {"width": -3}, r"\(id 0\): key 'width' is -3 \(integer\), expected a positive integer"),
        ("images", {"height": "40"}, r"key 'height' is '40' \(string\), expected a positive integer"),
        ("categories", {"id": 18}, r"categories\[1\]: key 'id' is 18, which categories\[0\] has already"),
        ("categories", {"name": "dog"}, r"categories\[1\] \(id 0\): key 'name' is dog, which categories\[0\]"),
        ("categories", {"name": 3}, r"key 'name' is 3 \(integer\), expected a string"),
        ("annotations", {"image_id": 99}, r"annotations\[1\] \(id 2\): key 'image_id' is 99 .* image of this file"),
        ("annotations", {"category_id": 1}, r"\(id 2, image_id 7\): key 'category_id' is 1 .* category of this file"),
        ("annotations", {"category_id": [0]}, r"key 'category_id' is 1 entries \(list\), expected an integer"),
        ("annotations", {"iscrowd": 2}, r"key 'iscrowd' is 2 \(integer\), expected 0 or 1"),
        ("annotations", {"iscrowd": "1"}, r"key 'iscrowd' is '1' \(string\), expected 0 or 1"),
        ("annotations", {"bbox": [1, 2, 3]}, r"key 'bbox' is \[1, 2, 3\], expected a list of four numbers \[x, y"),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, r"key 'bbox' is \[1, 2, 3, '4'\]"),
        ("annotations", {"bbox": [1, 2, 3, None]}, r"key 'bbox' is \[1, 2, 3, None\]"),
        ("annotations", {"bbox": [1, 2, 3, True]}, r"key 'bbox' is \[1, 2, 3, True\]"),
        ("annotations", {"bbox": [1, 2, 3, 10**400]}, r"key 'bbox' is \[1, 2, 3, 1000"),
        ("annotations", {"bbox": "1234"}, r"key 'bbox' is '1234' \(string\)"),
        ("annotations", {"bbox": {"a": 1, "b": 2, "c": 3, "d": 4}}, r"key 'bbox' is 4 entries \(object\)"),
        ("annotations", {"bbox": None}, r"key 'bbox' is null"),
    ],
)
def test_wrong_values_are_named_with_entry_ids_and_key(
    tmp_path: Path, section: str, changes: dict[str, Any], message: str
) -> None:
    content = coco()
    content[section][1] |= changes
    with pytest.raises(UserError, match=message):
        read_annotations(write(tmp_path, content))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("images", "id"),
        ("images", "file_name"),
        ("categories", "id"),
        ("categories", "name"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("annotations", "bbox"),
    ],
)
def test_missing_keys_are_named(tmp_path: Path, section: str, key: str) -> None:
    content = coco()
    del content[section][1][key]
    with pytest.raises(UserError, match=rf"instances.json: {section}\[1\].*: key '{key}' is missing, expected"):
        read_annotations(write(tmp_path, content))


def test_names_with_dots_and_colons_that_stay_inside_are_fine(tmp_path: Path) -> None:
    content = coco()
    content["images"][0]["file_name"] = "12:30..jpg"
    content["images"][1]["file_name"] = "./été/\udcff.jpg"
    assert list(read_annotations(write(tmp_path, content)).file_names) == ["12:30..jpg", "./été/\udcff.jpg"]


def test_garbage_collection_is_on_again_even_after_an_error(tmp_path: Path) -> None:
    assert gc.isenabled()
    read_annotations(write(tmp_path, coco()))
    assert gc.isenabled()
    with pytest.raises(UserError):
        read_annotations(write(tmp_path, "{}"))
    assert gc.isenabled()


def test_packed_strings_give_back_what_was_packed() -> None:
    strings = ["a.jpg", "", "日本/ü.png", "x" * 300]
    packed = PackedStrings.pack(strings)
    assert list(packed) == strings
    assert [packed[i] for i in range(len(packed))] == strings
    assert list(PackedStrings.pack([])) == []
    with pytest.raises(IndexError, match="string 4 of 4"):
        packed[4]
