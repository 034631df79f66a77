"""Datasets of any format: which one it is, which files are meant, where the images are."""

import json
from pathlib import Path

import pytest

from detector.config import SplitConfig
from detector.data.formats.reading import DatasetSource, build_source, read_dataset
from detector.errors import UserError
from tests.data.formats.files import voc_object, voc_xml, write, write_image, write_voc

DOCUMENT = {
    "images": [{"id": 7, "file_name": "missing.jpg"}, {"id": 8, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 3, "name": "cat"}],
}


def write_coco(path: Path) -> Path:
    return write(path, json.dumps(DOCUMENT))


@pytest.mark.parametrize(
    ("annotations", "images", "split"),
    [
        ("instances_train2017.json", "train2017", None),
        ("instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_train2017.json", "images/train2017", "train2017"),
        ("annotations/instances_train.json", "images/train", "train"),
        ("annotations/train.json", "images/train", "train"),
        ("annotations/train.json", "images", "train"),
        ("annotations/train.json", "annotations", None),
        ("train/_annotations.coco.json", "train", "train"),
        ("train/_annotations.coco.json", "train", None),
        ("train/labels.json", "train", "train"),
        ("train/labels.json", "train/images", "train"),
        ("anything.json", "images", None),
        ("anything.json", ".", None),
    ],
)
def test_coco_files_and_their_images_are_found(
    tmp_path: Path, annotations: str, images: str, split: str | None
) -> None:
    write_coco(tmp_path / annotations)
    write(tmp_path / "annotations/captions_train2017.json", "{}")
    write_image(tmp_path / images / "a.jpg")
    content = read_dataset(DatasetSource(tmp_path, split=split))
    assert content.format == "coco"
    assert content.path == tmp_path / annotations
    assert content.images_dir == tmp_path / images
    assert read_dataset(DatasetSource(tmp_path / annotations)).images_dir == tmp_path / images


def test_roboflows_file_goes_before_others_of_its_folder(tmp_path: Path) -> None:
    write_coco(tmp_path / "train/_annotations.coco.json")
    write(tmp_path / "train/_a_log.json", "{}")
    write_image(tmp_path / "train/a.jpg")
    assert read_dataset(DatasetSource(tmp_path, split="train")).path.name == "_annotations.coco.json"


def test_images_in_the_folder_of_the_split_are_found_for_a_file_of_a_longer_name(tmp_path: Path) -> None:
    write_coco(tmp_path / "annotations/train_v2.json")
    write_image(tmp_path / "train/a.jpg")
    assert read_dataset(DatasetSource(tmp_path, split="train")).images_dir == tmp_path / "train"


def test_the_exact_name_of_a_split_goes_before_one_that_begins_so(tmp_path: Path) -> None:
    for name in ("instances_train", "instances_train2", "instances_val1", "instances_val2"):
        write_coco(tmp_path / f"{name}.json")
    write_image(tmp_path / "a.jpg")
    assert read_dataset(DatasetSource(tmp_path, split="train")).path.name == "instances_train.json"
    with pytest.raises(UserError, match=r"which annotation file is meant\? There are instances_val1\.json, instances_"):
        read_dataset(DatasetSource(tmp_path, split="val"))
    with pytest.raises(UserError, match=r"which annotation file is meant\? There are instances_train\.json, instances"):
        read_dataset(DatasetSource(tmp_path))
    with pytest.raises(
        UserError, match=r"no annotation file: looked for annotations/instances_test\.json, .*; the fol"
    ):
        read_dataset(DatasetSource(tmp_path, split="test"))


@pytest.mark.parametrize("folder", [".", "annotations"])
@pytest.mark.parametrize("prefix", ["instances_", ""])
@pytest.mark.parametrize(
    ("split", "others"),
    [
        ("train", ("trainval", "training_old", "train_old", "trainv")),
        ("test", ("test-dev", "test-dev2017", "tests")),
        ("val", ("val_old", "valid", "val.bak", "val_")),
    ],
)
def test_a_split_whose_name_only_begins_so_is_another_one(
    tmp_path: Path, folder: str, prefix: str, split: str, others: tuple[str, ...]
) -> None:
    write_image(tmp_path / "a.jpg")
    for name in others:
        write_coco(tmp_path / folder / f"{prefix}{name}.json")
    with pytest.raises(UserError, match=rf"no annotation file: looked for .*/instances_{split}<number>\.json, "):
        read_dataset(DatasetSource(tmp_path, split=split))
    for name in (f"{split}2017", f"{split}_v2", f"{split}-2017.1", split):
        file = write_coco(tmp_path / folder / f"{prefix}{name}.json")
        assert read_dataset(DatasetSource(tmp_path, split=split)).path == file
        if name != split:
            file.unlink()
    assert read_dataset(DatasetSource(tmp_path, split=others[0])).path.stem == f"{prefix}{others[0]}"


def test_images_that_are_nowhere_are_an_error_that_says_where_they_were_looked_for(tmp_path: Path) -> None:
    write_coco(tmp_path / "annotations/instances_train.json")
    with pytest.raises(UserError, match=r"the images are not found: 'missing\.jpg' is in none of .*annotations; name"):
        read_dataset(DatasetSource(tmp_path, split="train"))
    assert read_dataset(DatasetSource(tmp_path, tmp_path / "x", split="train")).images_dir == tmp_path / "x"


def test_an_annotation_file_of_the_config_keeps_its_image_folder(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json")
    source = build_source(SplitConfig(annotations=str(path), images=str(tmp_path / "photos")))
    assert read_dataset(source).images_dir == tmp_path / "photos"


def test_formats_are_told_apart_by_looking(tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", "a")
    write(tmp_path / "roboflow/train/a.xml", voc_xml(voc_object()))
    write_image(tmp_path / "roboflow/train/a.jpg")
    for name in ("yaml", "labels", "classes"):
        write_image(tmp_path / name / "images/a.jpg")
        write(tmp_path / name / "labels/a.txt", "0 .5 .5 .1 .1")
        write(tmp_path / name / "x.names", "cat")
    write(tmp_path / "yaml/my.yaml", "train: images\nnames: [cat]")
    write(tmp_path / "csv/some.csv", "a.jpg,1,2,3,4,cat")
    write_image(tmp_path / "csv/a.jpg")
    expected = {"voc": "voc", "roboflow": "voc", "yaml": "yolo", "labels": "yolo", "classes": "yolo", "csv": "csv"}
    for name, form in expected.items():
        split = "train" if name == "roboflow" else None
        assert read_dataset(DatasetSource(tmp_path / name, split=split)).format == form
    assert read_dataset(DatasetSource(tmp_path / "yaml/my.yaml")).format == "yolo"
    assert read_dataset(DatasetSource(tmp_path / "csv/some.csv")).format == "csv"


def test_a_csv_file_beside_another_format_does_not_count(tmp_path: Path) -> None:
    write(write_voc(tmp_path, "a") / "notes.csv", "1,2")
    assert read_dataset(DatasetSource(tmp_path)).format == "voc"


@pytest.mark.parametrize("name", ["data.yaml", "dataset.yml", "other.yaml"])
def test_a_yaml_file_without_names_is_no_sign_of_yolo(tmp_path: Path, name: str) -> None:
    write(write_voc(tmp_path, "a") / name, "author: me\ntrain: images\n")
    assert read_dataset(DatasetSource(tmp_path)).format == "voc"
    for text in ("author: me\n'names': [cat]\n", "\ufeffnames: [cat]", "{train: images, names: [cat]}"):
        write(tmp_path / name, text)
        with pytest.raises(UserError, match=r"ambiguous, as there are signs of voc .* and yolo \(" + name):
            read_dataset(DatasetSource(tmp_path))


def test_two_formats_in_one_folder_are_an_error(tmp_path: Path) -> None:
    write_coco(write_voc(tmp_path, "a") / "all.json")
    with pytest.raises(
        UserError, match=r"ambiguous, as there are signs of voc \(XML files in .*Annotations\) and coco"
    ):
        read_dataset(DatasetSource(tmp_path))
    assert read_dataset(DatasetSource(tmp_path, format="voc")).format == "voc"


def test_a_folder_without_a_dataset_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no dataset found: looked for Annotations/\*\.xml .*; the folder is empty"):
        read_dataset(DatasetSource(tmp_path))
    for number in range(9):
        write(tmp_path / f"{number}.bin")
    with pytest.raises(UserError, match=r"the folder holds 0\.bin, .*, 7\.bin, \.\.\. \(9 entries\)"):
        read_dataset(DatasetSource(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DatasetSource(Path("no/such")), r"no/such: no such file or folder"),
        (DatasetSource(Path(__file__)), r"the format cannot be told by the extension '\.py'"),
        (DatasetSource(Path(__file__), format="voc"), r"is a file, expected the folder of a dataset in VOC format"),
        (DatasetSource(Path(), split="../x"), r"split '\.\./x' is no name of a split"),
        (DatasetSource(Path(), split=""), r"split '' is no name of a split"),
    ],
)
def test_a_wrong_path_or_split_is_an_error(source: DatasetSource, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_dataset(source)


@pytest.mark.parametrize("name", ["all.json", "all.csv"])
def test_a_split_of_one_file_is_an_error(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, json.dumps(DOCUMENT) if name == "all.json" else "a.jpg,1,2,3,4,cat")
    write_image(tmp_path / "a.jpg")
    assert read_dataset(DatasetSource(file)).num_boxes == 1
    with pytest.raises(
        UserError, match=rf"{name}: is a file of one split, in which split 'val' cannot be chosen; leav"
    ):
        read_dataset(DatasetSource(file, split="val"))
