"""CSV datasets: lines, images, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from detector.data.formats.csv_table import read_csv
from detector.errors import UserError
from tests.data.formats.files import write, write_image


def write_csv(folder: Path, text: str | bytes, images: tuple[str, ...] = ("a.jpg",)) -> Path:
    for image in images:
        write_image(folder / image)
    return write(folder / "train.csv", text)


def test_corners_become_boxes_and_classes_are_sorted(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "a.jpg,1,2.5,4,8,dog\nb.jpg,,,,,\na.jpg,-1,0,1e1,3,cat\n")
    content = read_csv(path)
    np.testing.assert_allclose(content.boxes, [[1, 2.5, 3, 5.5], [-1, 0, 11, 3]], rtol=1e-12)
    assert content.categories.names == ("cat", "dog")
    assert content.categories.ids == (1, 2)
    assert content.labels.tolist() == [1, 0]
    assert content.file_names == ["a.jpg", "b.jpg"]
    assert content.boxes_per_image().tolist() == [2, 0]
    assert content.describe_box(1) == "train.csv:3"
    assert content.images_dir == tmp_path


def test_boxes_without_area_are_kept_with_sides_of_at_most_zero(tmp_path: Path) -> None:
    content = read_csv(write_csv(tmp_path, "a.jpg,5,5,5,9,x\na.jpg,5,5,4,1,x"))
    assert content.boxes[:, 2:].tolist() == [[0, 4], [-1, -4]]


@pytest.mark.parametrize("header", ["path,x1,y1,x2,y2,class", "image_path, X1, Y1, X2, Y2, label", "\n\n,x1,y1,x2,y2,"])
def test_a_line_with_the_names_of_the_columns_is_skipped(tmp_path: Path, header: str) -> None:
    content = read_csv(write_csv(tmp_path, f"{header}\na.jpg,1,2,3,4,x\n"))
    assert content.num_boxes == content.num_images == 1


def test_only_the_first_line_may_name_the_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.csv:2: x1 is 'x1', expected a finite number"):
        read_csv(write_csv(tmp_path, "a.jpg,1,2,3,4,x\npath,x1,y1,x2,y2,class\n"))


def test_quotes_line_ends_and_white_space_are_those_of_csv(tmp_path: Path) -> None:
    text = '\ufeff "a, b.jpg",1,\t2,3 , 4 ," a ""b"", c"\r\n\r\n"é\nf.jpg",1,2,3,4,"x\ny"\r\n  \r\nc.jpg,1,2,3,4,x'
    content = read_csv(write_csv(tmp_path, text, images=("c.jpg",)))
    assert content.file_names == ["a, b.jpg", "é\nf.jpg", "c.jpg"]
    assert content.categories.names == ('a "b", c', "x", "x\ny")
    assert content.box_numbers.tolist() == [1, 3, 7]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg,1,2,3,4", r"train\.csv:2: 5 values in 'a\.jpg,1,2,3,4', expected six: path,x1,y1,x2,y2,class"),
        ("a.jpg;1;2;3;4;x", r"train\.csv:2: 1 values in .*, expected six"),
        ("a.jpg,1,2,3,4,x,0.9", r"train\.csv:2: 7 values"),
        ("a.jpg,1,2,,4,x", r"train\.csv:2: x2 is '', expected a finite number"),
        ("a.jpg,,,,,x", r"train\.csv:2: x1 is '', expected a finite number"),
        ("a.jpg,nan,2,3,4,x", r"train\.csv:2: x1 is 'nan', expected a finite number"),
        ("a.jpg,1,2,3,-inf,x", r"train\.csv:2: y2 is '-inf', expected a finite number"),
        ("a.jpg,1,2,3,4,", r"train\.csv:2: no class"),
        (",1,2,3,4,x", r"train\.csv:2: no path of an image"),
        (",,,,,", r"train\.csv:2: only commas"),
        ("../x.jpg,1,2,3,4,x", r"train\.csv:2: '\.\./x\.jpg' is no path inside the folder of the images"),
        ("/etc/passwd,1,2,3,4,x", r"train\.csv:2: '/etc/passwd' is no path inside"),
        ('"a.jpg,1,2,3,4,x\n', r"train\.csv:2: no valid CSV: unexpected end of data"),
        ('a.jpg,1,2,3,4,"x"y', r"train\.csv:2: no valid CSV: ',' expected after"),
        ("a" * 200_000, r"train\.csv:2: no valid CSV: field larger than field limit"),
        (b"a.jpg,1,2,3,4,\xe9", r"train\.csv:2: byte 0xe9 is no UTF-8 text"),
    ],
)
def test_a_line_that_is_no_box_is_an_error(tmp_path: Path, line: str | bytes, message: str) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(UserError, match=message):
        read_csv(write_csv(tmp_path, b"a.jpg,1,2,3,4,x\n" + data))


@pytest.mark.parametrize("text", ["", "\n", "path,x1,y1,x2,y2,class\n", "a.jpg,,,,,\n"])
def test_a_file_without_objects_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"train\.csv: no image has an object"):
        read_csv(write_csv(tmp_path, text))


def test_absolute_paths_count_inside_the_folder(tmp_path: Path) -> None:
    path = write_csv(tmp_path, f"{tmp_path}/sub/../a.jpg,1,2,3,4,x\n")
    assert read_csv(path).file_names == ["a.jpg"]
    with pytest.raises(UserError, match="is no path inside the folder of the images"):
        read_csv(write(tmp_path / "train.csv", f"{tmp_path}/../a.jpg,1,2,3,4,x\n"))


def test_a_split_is_a_file_or_the_only_one_of_a_folder(tmp_path: Path) -> None:
    for name in ("train", "val", "test/anything"):
        write(tmp_path / f"{name}.csv", f"{name[0]}.jpg,1,2,3,4,x")
        write_image(tmp_path / f"images/{name[0]}.jpg")
        write_image((tmp_path / f"{name}.csv").parent / f"{name[0]}.jpg")
    assert read_csv(tmp_path, "val").path == tmp_path / "val.csv"
    assert read_csv(tmp_path, "test").images_dir == tmp_path / "test"
    with pytest.raises(UserError, match=r"there are train\.csv, val\.csv; choose one with path or split"):
        read_csv(tmp_path)
    with pytest.raises(UserError, match=r"looked for one CSV file, none\.csv and none/\*\.csv; the folder holds"):
        read_csv(tmp_path, "none")


def test_images_may_be_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "a.jpg,1,2,3,4,x")
    with pytest.raises(
        UserError, match=r"the images are not found: 'a\.jpg' is in none of .*; name their folder with images"
    ):
        read_csv(path)
    assert read_csv(path, None, tmp_path / "photos").images_dir == tmp_path / "photos"
