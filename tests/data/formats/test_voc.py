"""Pascal VOC datasets: boxes, layouts, image sets, and what is refused."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from detector.data.formats.content import UNKNOWN_SIZE
from detector.data.formats.voc import read_voc
from detector.errors import UserError
from tests.data.formats.files import voc_object, voc_xml, write, write_image, write_voc


def one_file(folder: Path, text: str) -> Path:
    write(folder / "Annotations" / "a.xml", text)
    write_image(folder / "JPEGImages" / "a.jpg")
    return folder


def test_pixels_counted_from_one_become_continuous_coordinates(tmp_path: Path) -> None:
    # Columns 1 ... 3 and rows 2 ... 4 of pixels: from 0 to 3 and from 1 to 4.
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(box=(1, 2, 3, 4)))))
    assert content.boxes.tolist() == [[0, 1, 3, 3]]


def test_numbers_with_decimals_are_kept(tmp_path: Path) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(box=("1.5", "2.25", " 12.5 ", "1e1")))))
    np.testing.assert_allclose(content.boxes, [[0.5, 1.25, 12, 8.75]], rtol=1e-12)


@pytest.mark.parametrize(("box", "extent"), [((5, 2, 5, 4), (0, 3)), ((5, 2, 4, 4), (-1, 3)), ((1, 9, 3, 2), (3, -7))])
def test_a_box_without_area_is_kept_with_a_side_of_at_most_zero(
    tmp_path: Path, box: tuple[int, ...], extent: tuple[int, int]
) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(box=box))))
    assert content.boxes.tolist() == [[box[0] - 1, box[1] - 1, *extent]]


def test_negative_coordinates_are_kept_for_others_to_report(tmp_path: Path) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(box=(-4, 2, 3, 4)))))
    assert content.boxes.tolist() == [[-5, 1, 8, 3]]


@pytest.mark.parametrize(
    ("flag", "is_ignored"),
    [
        ("", False),
        ("<difficult>0</difficult>", False),
        ("<difficult> 1 </difficult>", True),
        ("<difficult/>", False),
        ("<difficult>True</difficult>", True),
        ("<difficult>Unspecified</difficult>", False),
    ],
)
def test_difficult_objects_are_ignore_regions(tmp_path: Path, flag: str, is_ignored: bool) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(extra=flag))))
    assert content.is_ignored.tolist() == [is_ignored]


def test_classes_are_those_that_occur_in_alphabetical_order(tmp_path: Path) -> None:
    objects = [voc_object(name) for name in ("dog", "cat", "a &amp; b &lt;1&gt;", " dog ")]
    content = read_voc(one_file(tmp_path, voc_xml(*objects)))
    assert content.categories.names == ("a & b <1>", "cat", "dog")
    assert content.categories.ids == (1, 2, 3)
    assert content.labels.tolist() == [2, 1, 0, 2]


def test_a_box_is_described_by_its_file_and_its_place_there(tmp_path: Path) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(), voc_object("dog"))))
    assert content.describe_box(1) == "Annotations/a.xml, object 2"
    assert content.describe_image(0) == "a.jpg"


def test_parts_of_an_object_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(box=(3, 4, 5, 6), extra=part))))
    assert content.boxes.tolist() == [[2, 3, 3, 3]]
    assert content.categories.names == ("cat",)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("<size><width>20</width><height>10</height><depth>3</depth></size>", (10, 20)),
        ("<size><width>20.0</width><height>10</height></size>", (10, 20)),
        ("<size><width>2147483647</width><height>1</height></size>", (1, 2**31 - 1)),
        ("", (UNKNOWN_SIZE, UNKNOWN_SIZE)),
        ("<size/>", (UNKNOWN_SIZE, UNKNOWN_SIZE)),
        ("<size><width>20</width></size>", (UNKNOWN_SIZE, UNKNOWN_SIZE)),
        ("<size><width>0</width><height>10</height></size>", (UNKNOWN_SIZE, UNKNOWN_SIZE)),
        ("<size><width/><height>10</height></size>", (UNKNOWN_SIZE, UNKNOWN_SIZE)),
    ],
)
def test_sizes_are_unknown_where_they_are_missing_or_zero(tmp_path: Path, size: str, expected: tuple[int, int]) -> None:
    content = read_voc(one_file(tmp_path, voc_xml(voc_object(), size=size)))
    assert content.sizes.tolist() == [list(expected)]


@pytest.mark.parametrize("width", ["1e12", "2147483648", "-1", "20.5", "nan", "wide"])
def test_a_size_that_is_no_number_of_pixels_is_an_error(tmp_path: Path, width: str) -> None:
    one_file(tmp_path, voc_xml(voc_object(), size=f"\n<size>\n<width>{width}</width><height>1</height></size>"))
    with pytest.raises(UserError, match=rf"a\.xml:3: <width> is '{re.escape(width)}', expected a whole number"):
        read_voc(tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", "", "1,5", "1_0", "\uff10", "1e999", "None"])
def test_a_coordinate_that_is_no_finite_number_is_an_error(tmp_path: Path, value: str) -> None:
    one_file(tmp_path, voc_xml(voc_object(), "\n", voc_object(box=(1, 2, value, 4))))
    with pytest.raises(UserError, match=r"a\.xml:2: object 2: <xmax> is '.*', expected a finite number"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object><bndbox/></object></annotation>", r"a\.xml:1: object 1: <object> has no <name>"),
        ("<annotation>\n<object><name>a</name></object></annotation>", r"a\.xml:2: object 1: <object> has no <bndbox>"),
        (voc_xml("<object><name>\n</name><bndbox/></object>"), r"object 1: <name> is empty"),
        (voc_xml("<object><name>a</name><bndbox><xmin>1</xmin></bndbox></object>"), r"<bndbox> has no <ymin>"),
        (voc_xml(voc_object(extra="<difficult>2</difficult>")), r"<difficult> is '2', expected 0 or 1"),
        ("<html><body/></html>", r"the root is <html>, expected <annotation>"),
        (voc_xml(), r"no image has an object"),
    ],
)
def test_a_file_that_is_no_annotation_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_voc(one_file(tmp_path, text))


def test_all_files_are_read_without_a_split_and_those_of_the_image_set_with_one(tmp_path: Path) -> None:
    write_voc(tmp_path, "b", "a", "c")
    write(tmp_path / "ImageSets/Main/train.txt", "\ufeffc\r\n\r\na  \r\n")
    write(tmp_path / "ImageSets/val.txt", "b")
    assert read_voc(tmp_path).file_names == ["a.jpg", "b.jpg", "c.jpg"]
    assert read_voc(tmp_path, "train").file_names == ["c.jpg", "a.jpg"]
    assert read_voc(tmp_path, "val").file_names == ["b.jpg"]
    assert read_voc(tmp_path, "train").image_ids.tolist() == [1, 2]


def test_an_image_of_the_set_without_a_file_has_no_boxes(tmp_path: Path) -> None:
    write_voc(tmp_path, "a")
    write_image(tmp_path / "JPEGImages" / "empty.PNG")
    write(tmp_path / "ImageSets/Main/train.txt", "empty\na\n")
    content = read_voc(tmp_path, "train")
    assert content.file_names == ["empty.PNG", "a.jpg"]
    assert content.boxes_per_image().tolist() == [0, 1]
    assert content.sizes.tolist() == [[UNKNOWN_SIZE, UNKNOWN_SIZE], [10, 20]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a\nnone", r"train\.txt:2: 'none' has neither an XML file nor an image in .*JPEGImages$"),
        ("a\n\na", r"train\.txt:3: 'a' stands there twice, first in ImageSets/Main/train\.txt:1"),
        ("a -1\nb  1", r"train\.txt:1: 'a -1': this is an image set of one class, with -1, 0 or 1 behind each name"),
        ("a.jpg", r"train\.txt:1: 'a\.jpg' has neither .*; write 'a', without the extension"),
        ("../Annotations/a", r"train\.txt:1: '\.\./Annotations/a' is no path inside the folder"),
        ("/etc/passwd", r"train\.txt:1: '/etc/passwd' is no path inside the folder"),
        (" \n", r"train\.txt: the image set is empty"),
        (b"\xff\xfea", r"train\.txt:1: byte 0xff is no UTF-8 text"),
        (b"a\nb\0", r"train\.txt:2: a null character"),
    ],
)
def test_a_wrong_image_set_is_an_error(tmp_path: Path, lines: str | bytes, message: str) -> None:
    write_voc(tmp_path, "a", "b")
    write(tmp_path / "ImageSets/Main/train.txt", lines)
    with pytest.raises(UserError, match=message):
        read_voc(tmp_path, "train")


def test_an_unknown_split_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    write_voc(tmp_path, "a")
    for name in ("cat_train", "train", "val"):
        write(tmp_path / f"ImageSets/Main/{name}.txt", "a")
    with pytest.raises(UserError, match=r"no split 'test': .*; the image sets are train, val, cat_train"):
        read_voc(tmp_path, "test")


def test_the_image_with_the_name_of_the_file_goes_before_the_name_inside(tmp_path: Path) -> None:
    # Files that were renamed keep their old <filename>, which may be that of another image by now.
    write(tmp_path / "Annotations/2.xml", voc_xml(voc_object(), filename="1.jpg"))
    write(tmp_path / "Annotations/1.xml", voc_xml(voc_object(), filename="0.jpg"))
    for name in ("1", "2"):
        write_image(tmp_path / f"JPEGImages/{name}.jpg")
    assert read_voc(tmp_path).file_names == ["1.jpg", "2.jpg"]


def test_the_name_inside_counts_where_no_image_has_the_name_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/0001.xml", voc_xml(voc_object(), filename="photo one é.webp"))
    write(tmp_path / "Annotations/0002.xml", voc_xml(voc_object(), filename="b.png"))
    write(tmp_path / "JPEGImages/photo one é.webp", b"")
    for name in ("0002.jpg", "0002.png", "b.png"):
        write_image(tmp_path / "JPEGImages" / name)
    assert read_voc(tmp_path).file_names == ["photo one é.webp", "b.png"]


def test_several_images_with_the_name_of_the_file_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/c.xml", voc_xml(voc_object()))
    for name in ("c.jpg", "c.png"):
        write_image(tmp_path / "JPEGImages" / name)
    with pytest.raises(UserError, match=r"c\.xml: several images have its name: c\.jpg, c\.png; expected one in <file"):
        read_voc(tmp_path)
    write(tmp_path / "Annotations/c.xml", voc_xml(voc_object(), filename="c.png"))
    assert read_voc(tmp_path).file_names == ["c.png"]
    (tmp_path / "Annotations/c.xml").unlink()
    write(tmp_path / "Annotations/d.xml", voc_xml(voc_object()))
    write(tmp_path / "ImageSets/Main/train.txt", "d\nc\n")
    with pytest.raises(UserError, match=r"train\.txt:2: several images have that name: c\.jpg, c\.png"):
        read_voc(tmp_path, "train")


def test_two_files_of_one_image_are_an_error(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write(tmp_path / f"Annotations/{name}.xml", voc_xml(voc_object(), filename="a.jpg"))
    write_image(tmp_path / "JPEGImages/a.jpg")
    with pytest.raises(UserError, match=r"Annotations/1\.xml and Annotations/2\.xml both belong to the image 'a\.jpg'"):
        read_voc(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\x.jpg"])
def test_an_image_name_that_leaves_the_folder_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path / "Annotations/a.xml", voc_xml(voc_object(), filename=name))
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(UserError, match=r"a\.xml:1: <filename> .* is no path inside"):
        read_voc(tmp_path)


def test_a_missing_image_is_named_for_others_to_report(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/a.xml", voc_xml(voc_object(), filename="x.png"))
    write(tmp_path / "Annotations/b.xml", voc_xml(voc_object()))
    (tmp_path / "JPEGImages").mkdir()
    assert read_voc(tmp_path).file_names == ["x.png", "b.jpg"]


@pytest.mark.parametrize("folder", ["images", "Images", "JPEGImages", "Annotations"])
def test_images_lie_in_their_folder_or_beside_the_files(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "Annotations/a.xml", voc_xml(voc_object()))
    write_image(tmp_path / folder / "a.jpg")
    content = read_voc(tmp_path)
    assert content.images_dir == tmp_path / folder
    assert content.file_names == ["a.jpg"]


def test_images_may_be_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "voc/Annotations/a.xml", voc_xml(voc_object()))
    write_image(tmp_path / "photos/a.png")
    assert read_voc(tmp_path / "voc", None, tmp_path / "photos").file_names == ["a.png"]
    with pytest.raises(UserError, match=r"none: no such folder; expected the folder with the images"):
        read_voc(tmp_path / "voc", None, tmp_path / "none")


def test_files_beside_their_images_are_read_as_labelimg_writes_them(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", voc_xml(voc_object()))
    write_image(tmp_path / "a.jpg")
    write(tmp_path / "deeper/b.xml", voc_xml(voc_object()))
    content = read_voc(tmp_path)
    assert content.file_names == ["a.jpg"]
    assert content.describe_box(0) == "a.xml, object 1"


def test_splits_may_be_folders_as_roboflow_writes_them(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write(tmp_path / split / "a.xml", voc_xml(voc_object()))
        write_image(tmp_path / split / "a.jpg")
    content = read_voc(tmp_path, "valid")
    assert content.images_dir == tmp_path / "valid"
    assert content.describe_box(0) == "valid/a.xml, object 1"
    with pytest.raises(UserError, match=r"there are some in train, valid: choose one with split"):
        read_voc(tmp_path)


def test_files_in_folders_below_belong_to_images_in_folders_below(tmp_path: Path) -> None:
    write(tmp_path / "Annotations/s 1/a.xml", voc_xml(voc_object()))
    write(tmp_path / "Annotations/s 2/a.xml", voc_xml(voc_object("dog"), filename="other.jpg"))
    write_image(tmp_path / "JPEGImages/s 1/a.jpg")
    write_image(tmp_path / "JPEGImages/s 2/other.jpg")
    write(tmp_path / "ImageSets/Main/train.txt", "s 2/a\n./s 1/a\n")
    assert read_voc(tmp_path).file_names == ["s 1/a.jpg", "s 2/other.jpg"]
    assert read_voc(tmp_path, "train").file_names == ["s 2/other.jpg", "s 1/a.jpg"]


def test_hidden_files_and_folders_named_like_images_are_passed_over(tmp_path: Path) -> None:
    write_voc(tmp_path, "a")
    write(tmp_path / "Annotations/._a.xml", "junk of another system")
    (tmp_path / "JPEGImages/b.jpg").mkdir()
    write(tmp_path / "ImageSets/Main/train.txt", "b")
    assert read_voc(tmp_path).file_names == ["a.jpg"]
    with pytest.raises(UserError, match="'b' has neither an XML file nor an image"):
        read_voc(tmp_path, "train")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_voc(tmp_path, "a")
    (tmp_path / "JPEGImages/again").symlink_to(tmp_path / "JPEGImages")
    (tmp_path / "Annotations/up").symlink_to(tmp_path)
    (tmp_path / "JPEGImages/itself.jpg").symlink_to(tmp_path / "JPEGImages/itself.jpg")
    assert read_voc(tmp_path).file_names == ["a.jpg"]


def test_reads_the_same_objects_as_an_independent_parser(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for image in range(5):
        boxes = generator.integers(-5, 60, size=(int(generator.integers(1, 9)), 4))
        one = voc_xml(*(voc_object(f"class {b[0] % 3}", tuple(b)) for b in boxes.tolist()))
        write(tmp_path / f"Annotations/{image}.xml", one)
    content = read_voc(tmp_path)
    for image in range(5):
        root = ET.parse(tmp_path / f"Annotations/{image}.xml").getroot()
        found = content.image_index == image
        names = [content.categories.names[label] for label in content.labels[found]]
        assert names == [element.findtext("name") for element in root.iter("object")]
        for box, element in zip(content.boxes[found], root.iter("bndbox"), strict=True):
            corners = [float(element.findtext(tag, "")) for tag in ("xmin", "ymin", "xmax", "ymax")]
            for start, extent, first, last in zip(box[:2], box[2:], corners[:2], corners[2:], strict=True):
                assert start == first - 1
                assert extent == (last - first if last <= first else len(range(int(first), int(last) + 1)))


def test_two_files_that_differ_in_their_extensions_only_are_an_error(tmp_path: Path) -> None:
    write_voc(tmp_path, "a")
    write(tmp_path / "Annotations/a.XML", voc_xml(voc_object()))
    with pytest.raises(UserError, match=r"Annotations: a\.XML and a\.xml differ in their extensions only"):
        read_voc(tmp_path)
