"""Boxes that training drops or clips are named with file and id."""

import numpy as np
import pytest

from tests.inspect.doctor.made_sets import checked, make_split, with_content

GOOD = ("dog", 10, 10, 20, 20)


@pytest.mark.parametrize(("width", "height"), [(0, 12), (12, 0), (-3, 12), (0.005, 12)])
def test_a_box_without_area_is_named(width: float, height: float) -> None:
    found = checked(make_split({"a.png": [GOOD], "b.png": [GOOD, ("cat", 5, 6, width, height)]}))
    finding = found.pop("degenerate-boxes")
    assert not found
    assert (finding.severity, finding.where, finding.count) == ("warning", "train", 1)
    assert finding.text == "1 of 3 boxes without area; training drops them"
    text = f"annotations[2] (id 103, image id 2) of b.png: 'cat' at (5, 6), {width:g} x {height:g} px"
    assert [(example.text, example.image, example.boxes) for example in finding.examples] == [(text, 1, (2,))]


def test_a_set_of_nothing_but_degenerate_boxes_is_an_error() -> None:
    finding = checked(make_split({"a.png": [("cat", 5, 6, 0, 9)], "b.png": [("cat", 5, 6, 9, 0)]}))["degenerate-boxes"]
    assert finding.severity == "error"
    assert "nothing is left to learn from" in finding.text


@pytest.mark.parametrize(("split", "severity"), [("train", "warning"), ("val", "error")])
def test_nan_is_an_error_where_it_is_scored(split: str, severity: str) -> None:
    finding = checked(make_split({"a.png": [GOOD, ("cat", float("nan"), 6, 9, 9)]}, split))["non-finite-boxes"]
    assert (finding.severity, finding.count) == (severity, 1)
    assert "annotations[1] (id 102, image id 1) of a.png: 'cat' at (nan, 6), 9 x 9 px" in finding.examples[0].text


def test_a_box_outside_of_its_image_is_named_with_the_images_size() -> None:
    found = checked(make_split({"a.png": [GOOD, ("cat", 90, 10, 9, 9)]}))
    finding = found.pop("outside-boxes")
    assert not found
    assert finding.severity == "warning"
    assert finding.examples[0].text == (
        "annotations[1] (id 102, image id 1) of a.png: 'cat' at (90, 10), 9 x 9 px; the image is 80 x 60"
    )


def test_boxes_that_leave_their_image_are_named_the_furthest_first() -> None:
    found = checked(make_split({"a.png": [("cat", 75, 10, 8, 9), ("cat", -7.5, 10, 20, 9), GOOD]}))
    finding = found.pop("leaving-boxes")
    assert not found
    assert finding.severity == "warning"
    assert finding.text == "2 of 3 boxes that leave their image, by 7.5 px at most; training clips them"
    assert [example.boxes for example in finding.examples] == [(1,), (0,)]


def test_a_pixel_beyond_the_border_is_only_a_note_with_its_likely_cause() -> None:
    split = make_split({"a.png": [("cat", -1, 10, 20, 9), GOOD]})
    finding = checked(with_content(split, format="voc", box_files=["a.xml"]))["leaving-boxes"]
    assert finding.severity == "note"
    assert finding.evidence.endswith("counted from 0; Pascal VOC counts from 1")
    assert finding.examples[0].text.startswith("a.xml, object 0: 'cat' at (-1, 10), 20 x 9 px")


def test_rounding_by_less_than_a_hundredth_of_a_pixel_is_nothing() -> None:
    assert not checked(make_split({"a.png": [("cat", 60, 50, 20.009, 10.009), GOOD]}))


def test_sizes_that_are_not_known_condemn_no_box() -> None:
    split = make_split({"a.png": [("cat", 9000, 10, 20, 9), GOOD]})
    assert not checked(with_content(split, sizes=np.zeros((1, 2), dtype=np.int64)))


def test_as_many_examples_are_named_as_were_asked_for() -> None:
    finding = checked(make_split({"a.png": [GOOD] + [("cat", 5, i, 0, 9) for i in range(20)]}))["degenerate-boxes"]
    assert (finding.count, len(finding.examples)) == (20, 5)
