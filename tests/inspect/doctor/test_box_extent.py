"""Boxes that are very small, large or thin in training are named; scales are those of the resize."""

import numpy as np
import pytest

from detector.data.resize import resized_size
from detector.inspect.doctor import check_splits
from detector.inspect.doctor.box_extent import training_scales
from tests.inspect.doctor.made_sets import checked, make_split, with_content

GOOD = ("dog", 10, 10, 20, 20)


def test_a_box_that_vanishes_in_the_resize_is_named_with_its_size_in_training() -> None:
    split = make_split({"a.png": [("cat", 5, 6, 3, 40), ("dog", 300, 300, 90, 90)]}, size=(1200, 1600))
    found = {finding.check: finding for finding in check_splits([split], short_side=300, max_side=500)}
    finding = found.pop("vanishing-boxes")
    assert not found
    assert finding.severity == "warning"
    assert finding.examples[0].text == (
        "annotations[0] (id 101, image id 1) of a.png: 'cat' at (5, 6), 3 x 40 px; 0.75 x 10 px in training"
    )


def test_a_box_below_the_finest_stride_is_a_note() -> None:
    split = make_split({"a.png": [("cat", 5, 6, 20, 28), ("dog", 300, 300, 90, 90)]}, size=(1200, 1600))
    [finding] = check_splits([split], short_side=300, max_side=500)
    assert (finding.check, finding.severity, finding.count) == ("small-boxes", "note", 1)
    assert finding.examples[0].boxes == (0,)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 2000), (37, 41)])
def test_scales_are_those_of_the_resize(size: tuple[int, int]) -> None:
    split = make_split({"a.png": []}, size=size)
    scale = training_scales(split, 800, 1333)[0]
    np.testing.assert_allclose(np.array(size) * scale, resized_size(size, 800, 1333), atol=0.5)


def test_unknown_sizes_have_no_scale_and_give_no_findings() -> None:
    split = make_split({"a.png": [("cat", 5, 6, 0.1, 0.1), GOOD]})
    split = with_content(split, sizes=np.zeros((1, 2), dtype=np.int64))
    assert np.isnan(training_scales(split, 800, 1333)).all()
    assert not checked(split)


def test_a_box_as_large_as_its_image_is_a_note() -> None:
    found = checked(make_split({"a.png": [("cat", 0, 0, 80, 60)], "b.png": [("dog", 0, 0, 78, 60)]}))
    finding = found.pop("whole-image-boxes")
    assert not found
    assert (finding.severity, finding.count, finding.examples[0].boxes) == ("note", 1, (0,))


def test_a_thin_box_is_a_note() -> None:
    found = checked(make_split({"a.png": [("cat", 0, 5, 61, 3), ("dog", 0, 35, 60, 3)]}))
    finding = found.pop("thin-boxes")
    assert not found
    assert (finding.severity, finding.count, finding.examples[0].boxes) == ("note", 1, (0,))


@pytest.mark.parametrize(("form", "name"), [("coco", "crowd regions"), ("voc", "objects marked as difficult")])
def test_ignore_regions_are_counted(form: str, name: str) -> None:
    split = make_split({"a.png": [GOOD, ("cat", 40, 10, 20, 20)]})
    files = ["a.xml"] if form == "voc" else None
    split = with_content(split, format=form, box_files=files, is_ignored=np.array([False, True]))
    finding = checked(split)["ignore-regions"]
    assert finding.severity == "note"
    assert finding.text == f"1 of 2 boxes for {name}: neither object nor background"
