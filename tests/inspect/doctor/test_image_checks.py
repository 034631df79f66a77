"""Images without boxes, of odd sizes and named twice, and annotation ids."""

import numpy as np
import pytest

from tests.inspect.doctor.made_sets import CLEAN, checked, make_split, with_content

BOXES = [("cat", 5, 6, 30, 20), ("dog", 40, 10, 25, 30)]


@pytest.mark.parametrize(("num_empty", "severity"), [(1, "note"), (2, "note"), (3, "warning")])
def test_images_without_boxes_are_a_warning_only_where_they_are_most(num_empty: int, severity: str) -> None:
    images = {"a.png": BOXES, "b.png": BOXES} | {f"empty{i}.png": [] for i in range(num_empty)}
    found = checked(make_split(images))
    finding = found.pop("images-without-boxes")
    assert not found
    assert (finding.severity, finding.count) == (severity, num_empty)
    assert finding.examples[0].text == "empty0.png (image id 3)"


def test_huge_and_long_images_are_notes_with_their_sizes() -> None:
    found = checked(
        make_split({"a.png": [("cat", 500, 600, 3000, 2000), ("dog", 0, 0, 3000, 3000)]}, size=(8000, 9000))
    )
    assert list(found) == ["huge-images"]
    assert found["huge-images"].examples[0].text == "a.png (image id 1): 9000 x 8000 (width x height)"
    found = checked(make_split({"a.png": [("cat", 5, 6, 30, 20), ("dog", 50, 6, 30, 20)]}, size=(50, 300)))
    assert list(found) == ["long-images"]
    assert found["long-images"].examples[0].text == "a.png (image id 1): 300 x 50 (width x height)"


def test_a_file_that_two_images_name_is_told() -> None:
    split = with_content(make_split(CLEAN), file_names=["a.png", "b.png", "a.png"])
    finding = checked(split)["files-named-twice"]
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples[0].text == "a.png (image id 3)"


@pytest.mark.parametrize(("name", "severity"), [("train", "warning"), ("val", "error")])
def test_a_repeated_annotation_id_is_an_error_where_it_is_scored(name: str, severity: str) -> None:
    split = with_content(make_split(CLEAN, name), annotation_ids=np.array([7, 8, 7, -1]))
    found = checked(split)
    finding = found.pop("repeated-annotation-ids")
    assert not found
    assert (finding.severity, finding.count) == (severity, 1)
    assert finding.examples[0].text.startswith("annotations[2] (id 7, image id 2) of b.png")


@pytest.mark.parametrize(("name", "severity"), [("train", "note"), ("val", "warning")])
def test_annotation_id_0_is_told(name: str, severity: str) -> None:
    finding = checked(with_content(make_split(CLEAN, name), annotation_ids=np.array([3, 2, 1, 0])))["annotation-id-0"]
    assert finding.severity == severity
    assert finding.examples[0].text.startswith("annotations[3] (id 0, image id 3) of c.png")


def test_annotations_without_ids_are_fine() -> None:
    assert not checked(with_content(make_split(CLEAN), annotation_ids=np.full(4, -1)))
