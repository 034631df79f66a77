"""Conversions: what is written, what is left out and said, and what is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detector.data.decode import ImageError
from detector.data.formats.content import FormatName
from detector.data.formats.conversion import Conversion, Holdout, convert
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.data.formats.verify import check_written
from detector.errors import UserError
from tests.data.formats.files import voc_object, voc_xml, write, write_image, write_voc

EVERY: tuple[FormatName, ...] = ("coco", "voc", "yolo", "csv")


def write_coco(folder: Path, annotations: list[dict[str, Any]], **images: tuple[int, int]) -> Path:
    """Write a COCO dataset with the classes cat (3) and dog (5); images by name (without .jpg) and (width, height)."""
    images = images or {"a": (20, 10)}
    entries = [
        {"id": index, "file_name": f"{name}.jpg", "width": width, "height": height}
        for index, (name, (width, height)) in enumerate(images.items(), start=1)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
    document = {"images": entries, "annotations": annotations, "categories": categories}
    write(folder / "instances_train.json", json.dumps(document))
    for name, (width, height) in images.items():
        write_image(folder / "train" / f"{name}.jpg", width, height)
    return folder


def cat(box: list[float], image: int = 1, **others: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 3, "bbox": box, **others}


def notes(conversion: Conversion) -> list[str]:
    return [*conversion.notes, *(note for split in conversion.splits for note in split.notes)]


def test_the_files_are_those_of_the_format(tmp_path: Path) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5])]))
    for form in EVERY:
        convert(source, form, tmp_path / form)
    xml = (tmp_path / "voc/Annotations/a.xml").read_text()
    for line in ("<xmin>2</xmin>", "<ymin>3</ymin>", "<xmax>11</xmax>", "<ymax>7</ymax>", "<width>20</width>"):
        assert line in xml
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text() == "a\n"
    assert (tmp_path / "voc/JPEGImages/a.jpg").is_file()
    assert (tmp_path / "yolo/labels/train/a.txt").read_text() == "0 0.3 0.45 0.5 0.5\n"
    description = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert description == {"train": "images/train", "names": {0: "cat", 1: "dog"}}
    assert (tmp_path / "yolo/images/train/a.jpg").is_file()
    assert (tmp_path / "csv/train.csv").read_text() == "a.jpg,1,2,11,7,cat\n"
    document = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert document["annotations"][0]["bbox"] == [1, 2, 10, 5]
    assert document["images"] == [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}]
    assert [category["id"] for category in document["categories"]] == [3, 5]


def test_images_without_boxes_are_written(tmp_path: Path) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5])], a=(20, 10), b=(20, 10)))
    for form in EVERY:
        conversion = convert(source, form, tmp_path / form)
        assert conversion.splits[0].num_images == 2
        assert conversion.splits[0].num_empty_images == 1
    assert (tmp_path / "yolo/labels/train/b.txt").read_text() == ""
    assert (tmp_path / "csv/train.csv").read_text().splitlines()[1] == "b.jpg,,,,,"


def test_boxes_without_area_survive_the_way_from_voc_and_back(tmp_path: Path) -> None:
    write(tmp_path / "in/Annotations/a.xml", voc_xml(voc_object(box=(5, 5, 5, 9)), voc_object(box=(9, 9, 3, 3))))
    write_image(tmp_path / "in/JPEGImages/a.jpg")
    for form in EVERY:
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / form)
        convert(DatasetSource(tmp_path / form), "voc", tmp_path / f"{form}_voc", splits=["train"])
        back = (tmp_path / f"{form}_voc/Annotations/a.xml").read_text()
        numbers = [round(float(part.split("<")[0]), 4) for part in back.split("min>")[1::2] + back.split("max>")[1::2]]
        assert numbers == [5, 5, 9, 9, 5, 9, 3, 3]


def test_ignore_regions_are_difficult_in_voc_and_left_out_of_yolo_and_csv(tmp_path: Path) -> None:
    crowd = cat([0, 0, 5, 5], iscrowd=1)
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), crowd]))
    for form in ("coco", "voc"):
        conversion = convert(source, form, tmp_path / form)
        assert (conversion.splits[0].num_boxes, conversion.splits[0].num_ignored) == (1, 1)
    assert (tmp_path / "voc/Annotations/a.xml").read_text().count("<difficult>1</difficult>") == 1
    for form in ("yolo", "csv"):
        conversion = convert(source, form, tmp_path / form)
        assert (conversion.splits[0].num_boxes, conversion.splits[0].num_ignored) == (1, 0)
        assert any(
            f"left out: 1 ignore regions (crowds, difficult objects), as {form.upper()}" in n for n in notes(conversion)
        )


def test_boxes_that_text_cannot_hold_are_left_out_and_said(tmp_path: Path) -> None:
    nan, huge = cat([float("nan"), 0, 5, 5]), cat([1e308, 0, 1e308, 5])
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), nan, huge]))
    for form in EVERY:
        conversion = convert(source, form, tmp_path / form)
        assert conversion.splits[0].num_boxes == 1
        assert "left out: 2 boxes with a number that is not finite" in notes(conversion)


def test_a_coco_file_holds_only_what_json_knows(tmp_path: Path) -> None:
    wrong = [cat([float("nan"), 0, 5, 5]), cat([0, 0, 5, float("inf")]), cat([0, 0, 1e200, 1e200])]
    convert(DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), *wrong])), "coco", tmp_path / "out")
    text = (tmp_path / "out/annotations/instances_train.json").read_text()
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [entry["bbox"] for entry in document["annotations"]] == [[1, 2, 10, 5]]


@pytest.mark.parametrize("form", ["voc", "csv"])
@pytest.mark.parametrize("box", [[1e17, 0, 5, 5], [1e14, 0, 5.3, 5], [0, -1e17, 5, 5], [3, 1e15, 7, 2.7]])
def test_boxes_too_far_away_for_corners_are_left_out_and_said(
    tmp_path: Path, form: FormatName, box: list[float]
) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), cat(box), cat([1e9, -1e9, 5.3, 0.7])]))
    conversion = convert(source, form, tmp_path / "out")
    assert conversion.splits[0].num_boxes == 2
    reason = f"boxes so far away that {form.upper()}'s numbers, which are corners, do not tell their sides"
    assert f"left out: 1 {reason}" in notes(conversion)


def test_boxes_far_from_their_image_are_left_out_of_yolo_and_said(tmp_path: Path) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), cat([400, 0, 5, 5])]))
    conversion = convert(source, "yolo", tmp_path / "yolo")
    assert notes(conversion)[1:] == ["left out: 1 boxes further than 16 times the image's side away from it"]


def test_boxes_that_voc_takes_for_boxes_without_area_are_said(tmp_path: Path) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5]), cat([1, 2, 1, 5]), cat([1, 2, 0, 5])]))
    conversion = convert(source, "voc", tmp_path / "voc")
    assert any("1 boxes at most one pixel wide or high" in note for note in notes(conversion))
    assert conversion.splits[0].num_boxes == 3
    assert not any("one pixel" in note for note in notes(convert(source, "csv", tmp_path / "csv")))


def test_classes_that_are_lost_or_that_only_val_has_are_said(tmp_path: Path) -> None:
    write(tmp_path / "in/classes.txt", "cat\ndog\nox")
    for split, label in (("train", 0), ("val", 1)):
        write_image(tmp_path / f"in/images/{split}/a.jpg")
        write(tmp_path / f"in/labels/{split}/a.txt", f"{label} .5 .5 .1 .1")
    source = DatasetSource(tmp_path / "in")
    conversion = convert(source, "csv", tmp_path / "csv", splits=["train", "val"])
    assert notes(conversion)[0] == "left out: 1 classes without a box: ox"
    assert "val has 1 classes that train lacks" in notes(conversion)[1]
    assert not notes(convert(source, "coco", tmp_path / "coco", splits=["train", "val"]))


@pytest.mark.parametrize("form", ["voc", "yolo", "csv"])
def test_ids_that_are_not_kept_are_said(tmp_path: Path, form: FormatName) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    path = tmp_path / "in/instances_train.json"
    document = json.loads(path.read_text())

    def converted(name: str, image: int, *categories: tuple[int, str]) -> str:
        document["images"][0]["id"] = document["annotations"][0]["image_id"] = image
        document["categories"] = [{"id": own, "name": category} for own, category in categories]
        document["annotations"][0]["category_id"] = categories[0][0]
        path.write_text(json.dumps(document))
        found = notes(convert(DatasetSource(tmp_path / "in"), form, tmp_path / name))
        return "".join(note for note in found if "anew" in note)

    first = 0 if form == "yolo" else 1
    kind = form.upper()
    assert converted("both", 7, (3, "cat")) == f"{kind} numbers categories and images anew: their ids are not kept"
    assert converted("categories", 1, (3, "cat")) == f"{kind} numbers categories anew: their ids are not kept"
    assert converted("images", 7, (first, "cat")) == f"{kind} numbers images anew: their ids are not kept"
    assert converted("none", 1, (first, "cat")) == ""
    assert converted("unused", 1, (first, "dog"), (first + 1, "cat")) == ""
    moved = converted("moved", 1, (first + 1, "dog"), (first, "cat"))  # to the place of a class that is lost
    assert moved == ("" if form == "yolo" else f"{kind} numbers categories anew: their ids are not kept")
    again = convert(DatasetSource(tmp_path / "both"), "coco", tmp_path / "coco", splits=["train"])
    assert not any("anew" in note for note in notes(again))


@pytest.mark.parametrize(("form", "first", "what"), [("csv", 1, "categories"), ("yolo", 0, "images")])
def test_ids_that_the_order_of_names_changes_are_said(tmp_path: Path, form: FormatName, first: int, what: str) -> None:
    write_coco(tmp_path / "in", [], b=(20, 10), a=(20, 10))
    path = tmp_path / "in/instances_train.json"
    document = json.loads(path.read_text())
    document["categories"] = [{"id": first, "name": "pig"}, {"id": first + 1, "name": "dog"}]
    document["annotations"] = [{**cat([1, 2, 10, 5]), "category_id": first + index} for index in (0, 1)]
    path.write_text(json.dumps(document))
    conversion = convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    assert notes(conversion) == [f"{form.upper()} numbers {what} anew: their ids are not kept"]


def test_splits_of_a_format_without_a_list_of_classes_get_one_list(tmp_path: Path) -> None:
    for split, name in (("train", "dog"), ("val", "cat")):
        write(tmp_path / f"in/Annotations/{split}.xml", voc_xml(voc_object(name)))
        write_image(tmp_path / f"in/JPEGImages/{split}.jpg")
        write(tmp_path / f"in/ImageSets/Main/{split}.txt", split)
    convert(DatasetSource(tmp_path / "in"), "yolo", tmp_path / "yolo", splits=["train", "val"])
    for split, label in (("train", 1), ("val", 0)):
        content = read_dataset(DatasetSource(tmp_path / "yolo", split=split))
        assert content.categories.names == ("cat", "dog")
        assert content.labels.tolist() == [label]


def test_splits_with_different_lists_of_classes_are_an_error(tmp_path: Path) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    document = json.loads((tmp_path / "in/instances_train.json").read_text())
    document["categories"] = document["categories"][:1]
    write(tmp_path / "in/instances_val.json", json.dumps(document))
    write_image(tmp_path / "in/val/a.jpg")
    with pytest.raises(UserError, match=r"instances_val\.json has other classes than .*instances_train\.json"):
        convert(DatasetSource(tmp_path / "in"), "yolo", tmp_path / "out", splits=["train", "val"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", EVERY)
def test_equal_names_in_two_splits_stay_apart(tmp_path: Path, form: FormatName) -> None:
    for split, width in (("train", 20), ("val", 40)):
        write(tmp_path / f"in/{split}/a.xml", voc_xml(voc_object(), size=""))
        write_image(tmp_path / f"in/{split}/a.jpg", width)
    convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out", splits=["train", "val"])
    for split, width in (("train", 20), ("val", 40)):
        content = read_dataset(DatasetSource(tmp_path / "out", split=split))
        with Image.open(content.images_dir / content.file_names[0]) as image:
            assert image.width == width


def test_holding_out_divides_the_images(tmp_path: Path) -> None:
    write_voc(tmp_path / "in", *(f"p{patient}_{image}" for patient in range(5) for image in range(4)))
    source = DatasetSource(tmp_path / "in")
    convert(source, "coco", tmp_path / "out", holdout=Holdout(0.4, seed=1, group="^(p[0-9]+)_"))
    train, val = (set(read_dataset(DatasetSource(tmp_path / "out", split=s)).file_names) for s in ("train", "val"))
    assert len(train) == 12
    assert len(val) == 8
    assert not train & val
    assert not {name[:2] for name in train} & {name[:2] for name in val}
    with pytest.raises(UserError, match="--holdout divides one split, found 2: a, b"):
        convert(source, "coco", tmp_path / "none", splits=["a", "b"], holdout=Holdout(0.4))
    with pytest.raises(UserError, match="--split: a, a: expected different names"):
        convert(source, "coco", tmp_path / "none", splits=["a", "a"])


def test_images_are_links_or_copies(tmp_path: Path) -> None:
    write_voc(tmp_path / "in", "a")
    original = tmp_path / "in/JPEGImages/a.jpg"
    convert(DatasetSource(tmp_path / "in"), "coco", tmp_path / "links")
    convert(DatasetSource(tmp_path / "links"), "coco", tmp_path / "again", splits=["train"])
    for folder in ("links", "again"):
        assert (tmp_path / folder / "images/train/a.jpg").readlink() == original
    convert(DatasetSource(tmp_path / "links"), "coco", tmp_path / "copies", splits=["train"], copy_images=True)
    copy = tmp_path / "copies/images/train/a.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == original.read_bytes()


def test_a_missing_image_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_voc(tmp_path / "in", "a", "b", "c")
    for name in ("b", "c"):
        (tmp_path / f"in/JPEGImages/{name}.jpg").unlink()
    with pytest.raises(UserError, match=r"b\.jpg: the image is missing and 1 more"):
        convert(DatasetSource(tmp_path / "in"), "csv", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]  # noqa: PTH208 (hidden files too)


def test_a_broken_image_is_an_error_where_its_size_is_needed(tmp_path: Path) -> None:
    write_voc(tmp_path / "in", "a")
    write(tmp_path / "in/JPEGImages/a.jpg", "no image")
    with pytest.raises(ImageError, match=r"a\.jpg: cannot read the size"):
        convert(DatasetSource(tmp_path / "in"), "yolo", tmp_path / "out")


def write_turned(path: Path, orientation: int, width: int = 20, height: int = 10) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize("form", ["yolo", "csv"])
def test_formats_without_sizes_refuse_images_that_are_shown_in_another_size_than_annotated(
    tmp_path: Path, form: FormatName
) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    write_turned(tmp_path / "in/train/a.jpg", 6)
    message = (
        r"a\.jpg: the image is shown as 20 x 10 pixels, but annotated as 10 x 20 \(height x width; 1 such images\)\. "
        rf"{form.upper()} counts in the image as it is shown: turn the pixels"
    )
    with pytest.raises(UserError, match=message):
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    convert(DatasetSource(tmp_path / "in"), "voc", tmp_path / "out")


@pytest.mark.parametrize("form", ["yolo", "csv"])
@pytest.mark.parametrize(("orientation", "width"), [(2, 20), (3, 20), (4, 20), (6, 10), (5, 10)])
def test_formats_without_sizes_refuse_images_that_readers_turn_unseen(
    tmp_path: Path, form: FormatName, orientation: int, width: int
) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 5, 5])], a=(width, 10), b=(20, 10))
    write_turned(tmp_path / "in/train/a.jpg", orientation, width)
    message = rf"a\.jpg: the image has the EXIF orientation {orientation}, by which readers of {form.upper()} turn it"
    with pytest.raises(UserError, match=message):
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    convert(DatasetSource(tmp_path / "in"), "coco", tmp_path / "out")


def test_turned_images_are_written_where_no_box_can_move(tmp_path: Path) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 5, 5])], a=(10, 20), b=(20, 10), c=(20, 10))
    write_turned(tmp_path / "in/train/a.jpg", 6)  # annotated in the size that is shown
    write_turned(tmp_path / "in/train/b.jpg", 3)  # has no boxes
    convert(DatasetSource(tmp_path / "in"), "yolo", tmp_path / "yolo")
    assert (tmp_path / "yolo/labels/train/a.txt").read_text() == "0 0.35 0.225 0.5 0.25\n"
    assert [(tmp_path / f"yolo/labels/train/{name}.txt").read_text() for name in "bc"] == ["", ""]
    write_turned(tmp_path / "in/train/a.jpg", 3, 10, 20)  # neither has sizes, so both mean the same
    convert(DatasetSource(tmp_path / "yolo"), "csv", tmp_path / "csv")
    row, *others = (tmp_path / "csv/train.csv").read_text().splitlines()
    name, *corners, label = row.split(",")
    assert (name, [float(corner) for corner in corners], label) == ("a.jpg", pytest.approx([1, 2, 6, 7]), "cat")
    assert others == ["b.jpg,,,,,", "c.jpg,,,,,"]


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("voc", "a\n.jpg", r"'a.n\.jpg' has a name that begins or ends with white space"),
        ("voc", "a\nb.jpg", r"'a.nb\.jpg' has a name with a character that VOC's"),
        ("voc", "a\x01b.jpg", r"has a name with a character that VOC's"),
        ("csv", " a.jpg", r"' a\.jpg' has a name that begins or ends with white space, which CSV does not keep"),
        ("yolo", ".a.jpg", r"'\.a\.jpg' has a hidden name"),
        ("voc", "b/.a/c.jpg", r"has a hidden name"),
        ("yolo", "a.gif", r"'a\.gif' has another extension than \.bmp, \.jpeg, "),
        ("csv", "\udce9.jpg", r"'.udce9\.jpg' has a name that is no UTF-8 text"),
    ],
)
def test_a_file_name_that_a_format_cannot_hold_is_an_error(
    tmp_path: Path, form: FormatName, name: str, message: str
) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    path = tmp_path / "in/instances_train.json"
    document = json.loads(path.read_text())
    document["images"][0]["file_name"] = name
    path.write_text(json.dumps(document))
    write(tmp_path / "in/train" / name, (tmp_path / "in/train/a.jpg").read_bytes())
    with pytest.raises(UserError, match=message):
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    convert(DatasetSource(tmp_path / "in"), "coco", tmp_path / "out")
    assert read_dataset(DatasetSource(tmp_path / "out", split="train")).file_names == [name]


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("voc", " cat", r"the class ' cat' begins or ends with white space, which VOC does not keep"),
        ("csv", "cat\n", r"the class 'cat.n' begins or ends with white space, which CSV does not keep"),
        ("voc", "c\x00at", r"the class 'c.x00at' has a character that VOC cannot hold"),
        ("voc", "c\ufffeat", r"has a character that VOC cannot hold"),
        ("csv", "c\x00at", r"has a character that CSV cannot hold"),
    ],
)
def test_a_class_name_that_a_format_cannot_hold_is_an_error(
    tmp_path: Path, form: FormatName, name: str, message: str
) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    path = tmp_path / "in/instances_train.json"
    path.write_text(path.read_text().replace('"cat"', json.dumps(name)))
    with pytest.raises(UserError, match=message):
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    for fine in ("coco", "yolo"):
        convert(DatasetSource(tmp_path / "in"), fine, tmp_path / fine)
        assert read_dataset(DatasetSource(tmp_path / fine, split="train")).categories.names[0] == name


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize(
    "name", ["a\rb", "a\r\nb", "a\n\tb", 'a, "b"', "'a'", "<a> & b;", "no", "0", "é ü 猫", "a: #b"]
)
def test_class_names_with_special_characters_survive(tmp_path: Path, form: FormatName, name: str) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])])
    path = tmp_path / "in/instances_train.json"
    path.write_text(path.read_text().replace('"cat"', json.dumps(name)))
    convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")
    assert read_dataset(DatasetSource(tmp_path / "out", split="train")).categories.names[0] == name


def test_two_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])], a=(20, 10), b=(20, 10))
    path = tmp_path / "in/instances_train.json"
    path.write_text(path.read_text().replace('"b.jpg"', '"./a.jpg"'))
    with pytest.raises(UserError, match=r"two images are named 'a\.jpg', expected different names"):
        convert(DatasetSource(tmp_path / "in"), "voc", tmp_path / "out")


@pytest.mark.parametrize("form", ["voc", "csv"])
def test_a_dataset_without_objects_is_an_error_where_classes_would_be_lost(tmp_path: Path, form: FormatName) -> None:
    write_coco(tmp_path / "in", [cat([float("nan"), 2, 10, 5])])
    with pytest.raises(UserError, match=rf"no box to write in train; {form.upper()} has no list of classes"):
        convert(DatasetSource(tmp_path / "in"), form, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("0 0.3", "0 0.4"), "boxes have other coordinates"),
        (("0 0.3", "1 0.3"), "boxes have other classes"),
        (("0 0.3 0.45 0.5 0.5\n", "\n"), "0 boxes in place of 1"),
    ],
)
def test_a_dataset_that_does_not_read_back_is_found(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5])]))
    convert(source, "yolo", tmp_path / "out")
    label = tmp_path / "out/labels/train/a.txt"
    label.write_text(label.read_text().replace(*change))
    with pytest.raises(RuntimeError, match=f"does not read back as it was: {problem}"):
        check_written(tmp_path / "out", "train", "yolo", read_dataset(source), ["images/train/a.jpg"])
    with pytest.raises(RuntimeError, match="1 images in place of 1, or others"):
        check_written(tmp_path / "out", "train", "yolo", read_dataset(source), ["images/train/b.jpg"])
    with pytest.raises(RuntimeError, match="it is taken for yolo"):
        check_written(tmp_path / "out", "train", "voc", read_dataset(source), ["images/train/a.jpg"])


def test_a_size_that_does_not_read_back_is_found(tmp_path: Path) -> None:
    source = DatasetSource(write_coco(tmp_path / "in", [cat([1, 2, 10, 5])]))
    convert(source, "voc", tmp_path / "out")
    other = replace(read_dataset(source), sizes=np.array([[20, 10]]))
    with pytest.raises(RuntimeError, match="images have other sizes"):
        check_written(tmp_path / "out", "train", "voc", other, ["JPEGImages/a.jpg"])


@pytest.mark.parametrize("split", ["a/b", "a\\b"])
def test_a_split_with_a_slash_is_an_error(tmp_path: Path, split: str) -> None:
    write_voc(tmp_path / "in", "a")
    with pytest.raises(UserError, match=r"--split: 'a.+b': expected the name of a split, such as train, .* no slash"):
        convert(DatasetSource(tmp_path / "in"), "coco", tmp_path / "out", splits=[split])


@pytest.mark.parametrize("form", ["voc", "csv"])
def test_a_part_that_is_held_out_without_boxes_is_named(tmp_path: Path, form: FormatName) -> None:
    write_coco(tmp_path / "in", [cat([1, 2, 10, 5])], a=(20, 10), b=(20, 10))
    source = DatasetSource(tmp_path / "in")
    message = r"no box to write in (train|val); .* could not be read; choose another --seed or --holdout"
    with pytest.raises(UserError, match=message):
        convert(source, form, tmp_path / "out", holdout=Holdout(0.5))
