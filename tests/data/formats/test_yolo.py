"""YOLO datasets: label files, data.yaml, folders, and what is refused."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from detector.data.dataset import open_dataset
from detector.data.decode import ImageError
from detector.data.formats.content import UNKNOWN_SIZE
from detector.data.formats.yolo import read_yolo
from detector.data.formats.yolo_layout import label_path
from detector.errors import UserError
from tests.data.formats.files import write, write_image

WIDTH, HEIGHT = 20, 10
YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def write_yolo(folder: Path, labels: str = "0 0.5 0.5 0.2 0.4\n", yaml: str = YAML) -> Path:
    """Write a dataset with one image for training and one to be scored on."""
    write(folder / "data.yaml", yaml)
    for split in ("train", "val"):
        write_image(folder / f"images/{split}/{split}.jpg", WIDTH, HEIGHT)
        write(folder / f"labels/{split}/{split}.txt", labels)
    return folder


def test_parts_of_the_image_become_pixels(tmp_path: Path) -> None:
    content = read_yolo(write_yolo(tmp_path, "1 0.5 0.25 0.2 0.5\n"), "train")
    # x = (0.5 - 0.1) * 20, y = (0.25 - 0.25) * 10, width = 0.2 * 20, height = 0.5 * 10
    np.testing.assert_allclose(content.boxes, [[8, 0, 4, 5]], rtol=1e-12)
    assert content.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert content.labels.tolist() == [1]
    assert content.categories.ids == (0, 1)
    assert content.categories.names == ("cat", "dog")
    assert content.describe_box(0) == "labels/train/train.txt:1"


def test_a_polygon_becomes_the_box_around_it(tmp_path: Path) -> None:
    content = read_yolo(write_yolo(tmp_path, "0 0.1 0.5 0.4 0.2 0.3 0.9\n0 0.5 0.5 1 1\n"), "train")
    np.testing.assert_allclose(content.boxes, [[2, 2, 6, 7], [0, 0, 20, 10]], rtol=1e-12)


def test_lines_may_have_any_ends_and_white_space(tmp_path: Path) -> None:
    content = read_yolo(write_yolo(tmp_path, "\ufeff\r\n 0\t.5 0.5  1e-1 +0.1 \r\n\r\n1.0 0 0 1 1"), "train")
    assert content.labels.tolist() == [0, 1]
    assert content.box_numbers.tolist() == [2, 4]


def test_boxes_without_area_or_outside_are_kept_for_others_to_report(tmp_path: Path) -> None:
    content = read_yolo(write_yolo(tmp_path, "0 0.5 0.5 0 -0.1\n0 -0.5 2 0.1 0.1\n"), "train")
    np.testing.assert_allclose(content.boxes[:, 2:], [[0, -1], [2, 1]], atol=1e-12)
    np.testing.assert_allclose(content.boxes[1, :2], [-11, 19.5], atol=1e-12)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", r"train\.txt:2: 4 values; expected 5 \(class x y width height\)"),
        ("0 0.5 0.5 0.2 0.2 0.9", r"train\.txt:2: 6 values: a box with a confidence, as in predictions\?; expected 5"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", r"train\.txt:2: 8 values; expected 5"),
        ("0", r"train\.txt:2: 1 values"),
        ("2 0.5 0.5 0.2 0.2", r"train\.txt:2: class '2', expected 0 \.\.\. 1: the dataset has 2 classes"),
        ("-1 0.5 0.5 0.2 0.2", r"train\.txt:2: class '-1', expected 0"),
        ("0.5 0.5 0.5 0.2 0.2", r"train\.txt:2: class '0\.5', expected 0"),
        ("cat 0.5 0.5 0.2 0.2", r"train\.txt:2: 'cat' is no finite number"),
        ("0 nan 0.5 0.2 0.2", r"train\.txt:2: 'nan' is no finite number"),
        ("0 0.5 inf 0.2 0.2", r"train\.txt:2: 'inf' is no finite number"),
        ("0,0.5,0.5,0.2,0.2", r"train\.txt:2: '0,0\.5,0\.5,0\.2,0\.2' is no finite number"),
        ("0 320 240 30 40", r"train\.txt:2: '0 320 240 30 40': .* from 0 to 1; are these pixels\?"),
    ],
)
def test_a_line_that_is_no_object_is_an_error(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_yolo(write_yolo(tmp_path, f"0 0.5 0.5 0.2 0.2\n{line}\n"), "train")


def test_images_without_labels_have_no_boxes_and_need_no_size(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    write(tmp_path / "images/train/broken.png", "no image")
    write(tmp_path / "images/train/empty.png", "no image")
    write(tmp_path / "labels/train/empty.txt", " \n")
    content = read_yolo(tmp_path, "train")
    assert content.file_names == ["broken.png", "empty.png", "train.jpg"]
    assert content.boxes_per_image().tolist() == [0, 0, 1]
    write(tmp_path / "labels/train/broken.txt", "0 0.5 0.5 0.1 0.1")
    content = read_yolo(tmp_path, "train")
    assert content.sizes.tolist() == [[UNKNOWN_SIZE] * 2, [UNKNOWN_SIZE] * 2, [HEIGHT, WIDTH]]
    assert np.isnan(content.boxes).all(axis=1).tolist() == [True, False]
    with pytest.raises(ImageError, match=r"broken\.png: cannot read the size of the image"):
        open_dataset(content)  # as training does


def test_a_split_without_any_label_file_is_an_error(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "labels/train/train.txt").unlink()
    with pytest.raises(
        UserError, match=r"none of the 1 images .* has a label file; looked for .*labels/train/train.txt"
    ):
        read_yolo(tmp_path, "train")


@pytest.mark.parametrize(
    "names",
    [
        "[cat, dog]",
        "\n- cat\n- dog",
        "{0: cat, 1: dog}",
        "\n  1: dog\n  0: cat",
        "['cat', \"dog\"]\nnc: 2",
        "[cat, dog]\ntest:\nnc: ~",
    ],
)
def test_classes_are_a_list_or_a_mapping(tmp_path: Path, names: str) -> None:
    content = read_yolo(write_yolo(tmp_path, yaml=f"train: images/train\nnames: {names}\n"), None)
    assert content.categories.names == ("cat", "dog")


def test_class_names_are_text_as_it_is_written(tmp_path: Path) -> None:
    content = read_yolo(
        write_yolo(tmp_path, yaml="train: images/train\nnames: [no, 1, null, 0x10, 'a: b', 2001-01-01]")
    )
    assert content.categories.names == ("no", "1", "null", "0x10", "a: b", "2001-01-01")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train", r"data\.yaml: key 'names' is missing"),
        ("train: images/train\nnames: []", r"data\.yaml:2: 'names' holds no class"),
        ("train: images/train\nnames: classes.txt", r"data\.yaml:2: 'names' holds no class"),
        ("train: images/train\nnames: [a, [b]]", r"data\.yaml:2: 'names' is a list, expected a list of class names"),
        ("train: images/train\nnames: {0: a, 2: b}", r"data\.yaml:2: 'names' has the keys 0, 2, expected 0 \.\.\. 1"),
        ("train: images/train\nnames: {0: a, 0: b}", r"data\.yaml:2: 'names' has the keys 0, 0, expected 0 \.\.\. 1"),
        ("train: images/train\nnames: [a]\nnc: 2", r"data\.yaml:3: 'nc' is '2', but there are 1 names"),
        ("train: images/train\nnames: [a, a]", r"classes 0 and 1 have the same name 'a'"),
        ("train: images/train\nnames: [a, '']", r"class 1 has the name '', expected text"),
        ('train: images/train\nnames: ["\\ud800"]', r"class 0 has the name '.ud800', expected text"),
        ("names: [a]", r"which split is meant\? it has none of train, val, test"),
        ("train: a\nval: b\nnames: [a]", r"which split is meant\? it has train, val; choose it with split"),
        ("train: none\nnames: [a]", r"data\.yaml:1: 'train' is 'none', but there is nothing at .*/none"),
        ("train: {a: b}\nnames: [a]", r"data\.yaml:1: 'train' is a mapping, expected a folder, a list of folders"),
        ("train: []\nnames: [a]", r"data\.yaml:1: 'train' is an empty list"),
        ("train: labels\nnames: [a]", r"labels: no images; the folder holds train/, val/"),
        ("train: a\ntrain: b\nnames: [a]", r"data\.yaml:2: key 'train' stands there twice"),
        ("train: [images/train, images/train]\nnames: [a]", r"'train' names the image 'train\.jpg' twice"),
        ("train: 'a\n", r"data\.yaml:\d: no valid YAML"),
        ("[" * 5000, r"data\.yaml: no valid YAML"),
        ("just text", r"data\.yaml: no 'key: value' lines"),
        ("", r"data\.yaml: no 'key: value' lines"),
    ],
)
def test_a_wrong_yaml_is_an_error(tmp_path: Path, yaml: str, message: str) -> None:
    write_yolo(tmp_path, yaml=yaml)
    with pytest.raises(UserError, match=message):
        read_yolo(tmp_path / "data.yaml")


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for split in ("valid", "names"):
        with pytest.raises(UserError, match=rf"no split '{split}'; it has train, val"):
            read_yolo(tmp_path, split)


@pytest.mark.parametrize(
    "yaml",
    [
        "path: .\ntrain: images/train",
        "path: images\ntrain: train",
        "path: ../not_here_any_more\ntrain: images/train",
        "path: /content/datasets/mine\ntrain: ./images/train/",
        "train: ../images/train",
        "train: [images/train]",
        "train: images",
    ],
)
def test_folders_are_found_from_the_path_or_from_the_yaml(tmp_path: Path, yaml: str) -> None:
    folder = write_yolo(tmp_path / "set", yaml=f"{yaml}\nnames: [cat]")
    for place in (folder, folder / "data.yaml", Path(os.path.relpath(folder))):
        content = read_yolo(place, "train")
        assert content.images_dir / content.file_names[0] == folder.absolute() / "images/train/train.jpg"
        assert content.num_boxes >= 1


def test_several_folders_are_read_in_turn(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "set", yaml="both: [images/val, images/train]\nnames: [cat]")
    content = read_yolo(folder, "both")
    assert content.images_dir == folder / "images"
    assert content.file_names == ["val/val.jpg", "train/train.jpg"]
    assert content.boxes_per_image().tolist() == [1, 1]


def test_roboflow_writes_paths_from_one_folder_further_up(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_image(tmp_path / split / "images" / "a.jpg")
        write(tmp_path / split / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1")
    write(tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    content = read_yolo(tmp_path, "val")
    assert content.images_dir == tmp_path / "valid/images"
    assert content.describe_box(0) == "valid/labels/a.txt:1"


def test_a_list_names_images_from_its_own_folder_or_from_the_datasets(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "set", yaml="train: lists/train.txt\nnames: [cat]")
    lines = f"./../images/val/val.jpg\r\n\n{folder}/images/train/train.jpg \n"
    write(folder / "lists/train.txt", lines)
    content = read_yolo(folder, "train")
    assert content.file_names == ["images/val/val.jpg", "images/train/train.jpg"]
    write(folder / "lists/train.txt", "images/train/train.jpg\nimages/train/missing.jpg")
    content = read_yolo(folder, "train")
    assert content.images_dir == folder
    assert content.file_names[0] == "images/train/train.jpg"
    assert content.boxes_per_image().tolist() == [1, 0]


@pytest.mark.parametrize("line", ["../../secret.jpg", "/etc/passwd", "images/../../x.jpg", ".."])
def test_a_list_that_leaves_the_dataset_is_an_error(tmp_path: Path, line: str) -> None:
    folder = write_yolo(tmp_path / "set", yaml="train: train.txt\nnames: [cat]")
    write(tmp_path / "secret.jpg", "")
    write(folder / "train.txt", f"images/train/train.jpg\n{line}\n")
    with pytest.raises(UserError, match=rf"train\.txt:2: '{re.escape(line)}' is neither in "):
        read_yolo(folder, "train")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("set/images/train/a.b.jpg", "set/labels/train/a.b.txt"),
        ("images/set/images/train/a.jpg", "images/set/labels/train/a.txt"),
        ("my_images/a.jpg", "my_images/a.txt"),
    ],
)
def test_the_last_images_becomes_labels(image: str, label: str) -> None:
    assert label_path(Path("/data") / image) == Path("/data") / label


def test_labels_may_be_beside_the_images(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg")
    write(tmp_path / "images/a.txt", "0 0.5 0.5 0.1 0.1")
    write(tmp_path / "data.yaml", "train: images\nnames: [cat]")
    assert read_yolo(tmp_path).num_boxes == 1


@pytest.mark.parametrize(
    ("images", "labels", "classes", "split"),
    [
        ("images/train", "labels/train", "classes.txt", "train"),
        ("train/images", "train/labels", "classes.txt", "train"),
        ("train", "train", "obj.names", "train"),
        ("images", "labels", "labels/classes.txt", None),
        ("images/a", "labels/a", "coco.names", None),
        (".", ".", "classes.txt", None),
    ],
)
def test_without_a_yaml_the_folders_tell(
    tmp_path: Path, images: str, labels: str, classes: str, split: str | None
) -> None:
    write_image(tmp_path / images / "x.jpg")
    write(tmp_path / labels / "x.txt", "1 0.5 0.5 0.1 0.1")
    write(tmp_path / classes, "cat\r\n dog \n\n")
    content = read_yolo(tmp_path, split)
    assert content.categories.names == ("cat", "dog")
    assert (content.num_images, content.num_boxes) == (1, 1)


def test_without_a_yaml_images_may_be_elsewhere(tmp_path: Path) -> None:
    write_image(tmp_path / "photos/x.jpg")
    write(tmp_path / "set/labels/train/x.txt", "0 0.5 0.5 0.1 0.1")
    write(tmp_path / "set/classes.txt", "cat")
    content = read_yolo(tmp_path / "set", "train", tmp_path / "photos")
    assert content.num_boxes == 1
    assert content.describe_box(0) == "labels/train/x.txt:1"
    with pytest.raises(UserError, match=r"images: cannot be chosen, as .*data\.yaml says where they are"):
        read_yolo(write_yolo(tmp_path / "other"), "train", tmp_path / "photos")


def test_without_a_yaml_what_is_missing_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "images/train/x.jpg")
    write(tmp_path / "labels/train/x.txt", "0 0.5 0.5 0.1 0.1")
    with pytest.raises(
        UserError, match=r"no class names: looked for data\.yaml there, and for classes\.txt, obj\.names"
    ):
        read_yolo(tmp_path, "train")
    with pytest.raises(UserError, match=r"which split is meant\? The folder holds train"):
        read_yolo(tmp_path)
    with pytest.raises(UserError, match=r"no data\.yaml, and no images in .*images/val, .*; the folder holds images/"):
        read_yolo(tmp_path, "val")
    write(tmp_path / "classes.txt", "a\n\nb\n")
    with pytest.raises(UserError, match=r"classes\.txt:2: an empty line"):
        read_yolo(tmp_path, "train")
    write(tmp_path / "classes.txt", "\n")
    with pytest.raises(UserError, match=r"there is no class, expected at least one name"):
        read_yolo(tmp_path, "train")
