"""YOLO datasets for poses: the boxes of their labels, without the keypoints."""

from pathlib import Path

import numpy as np
import pytest

from detector.data.formats.yolo import read_yolo
from detector.errors import UserError
from tests.data.formats.files import write, write_image

POSE = "train: images/train\nkpt_shape: [2, 3]\nnames: [cat]\n"


def write_yolo(folder: Path, labels: str, yaml: str = POSE) -> Path:
    """Write a dataset with one image of 20 x 10 pixels."""
    write(folder / "data.yaml", yaml)
    write_image(folder / "images/train/train.jpg", 20, 10)
    write(folder / "labels/train/train.txt", labels)
    return folder


def test_labels_with_keypoints_are_the_boxes_before_them(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path, "0 0.5 0.5 0.2 0.4 0.9 0.9 2 0 0 0\n", POSE)
    np.testing.assert_allclose(read_yolo(folder, "train").boxes, [[8, 3, 4, 4]], rtol=1e-12)
    folder = write_yolo(tmp_path, "0 0.5 0.5 0.2 0.4 0.9 0.9\n", POSE.replace("[2, 3]", "[1, 2]"))
    np.testing.assert_allclose(read_yolo(folder, "train").boxes, [[8, 3, 4, 4]], rtol=1e-12)


@pytest.mark.parametrize("line", ["0 .5 .5 .2 .4", "0 .5 .5 .2 .4 .9 .9 2", "0 .5 .5 .2 .4 .9 .9 .1 .1 .2 .2 .3"])
def test_another_number_of_keypoints_than_the_yaml_says_is_an_error(tmp_path: Path, line: str) -> None:
    folder = write_yolo(tmp_path, f"0 .5 .5 .2 .4 .9 .9 2 0 0 0\n{line}\n", POSE)
    count = len(line.split())
    with pytest.raises(
        UserError, match=rf"train\.txt:2: {count} values; expected 11 \(class .* 6 of keypoints, as kpt"
    ):
        read_yolo(folder, "train")


@pytest.mark.parametrize("shape", ["[17]", "[2, 4]", "[0, 3]", "17", "[a, 2]", "[1.5, 2]"])
def test_a_wrong_shape_is_an_error(tmp_path: Path, shape: str) -> None:
    folder = write_yolo(tmp_path, "0 .5 .5 .2 .4", POSE.replace("[2, 3]", shape))
    with pytest.raises(UserError, match=r"data\.yaml:2: 'kpt_shape' is '.*', expected \[number of keypoints, 2 or 3\]"):
        read_yolo(folder, "train")
