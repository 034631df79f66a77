"""Boxes that were written in another way than their format says are seen by statistics, and no others are."""

import numpy as np
import numpy.typing as npt
import pytest

from detector.inspect.doctor import Finding, Split
from detector.inspect.doctor.box_reading import find_other_reading
from tests.inspect.doctor.made_sets import make_split, with_content

Numbers = npt.NDArray[np.float64]


def true_boxes(count: int = 60, seed: int = 0) -> Numbers:
    """Boxes (x, y, width, height) anywhere in images of 80 x 60."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(8, 36, (count, 2))
    return np.concatenate([rng.uniform(0, [80, 60] - sides), sides], axis=1)


def split_of(boxes: Numbers, form: str = "coco") -> Split:
    split = make_split({f"{i}.png": [("cat", *row)] for i, row in enumerate(boxes.tolist())})
    files = None if form in ("coco", "csv") else [f"{i}.txt" for i in range(len(boxes))]
    return with_content(split, format=form, box_files=files)


def found_in(boxes: Numbers, form: str = "coco") -> Finding | None:
    findings = find_other_reading(split_of(boxes, form))
    assert len(findings) < 2
    return findings[0] if findings else None


@pytest.mark.parametrize("form", ["coco", "voc", "csv", "yolo"])
def test_right_boxes_are_left_alone(form: str) -> None:
    assert found_in(true_boxes(), form) is None


def test_corners_in_a_coco_file_are_told_with_the_evidence() -> None:
    x, y, w, h = true_boxes().T
    written = np.stack([x, y, x + w, y + h], axis=1)
    finding = found_in(written)
    assert finding is not None
    assert (finding.check, finding.severity) == ("mixed-up-boxes", "error")
    assert finding.text == "the boxes look like (x1, y1, x2, y2), where COCO has (x, y, width, height)"
    leaving = ((written[:, :2] + written[:, 2:]) > 1.05 * np.array([80, 60])).any(axis=1)
    assert finding.count == leaving.sum() > 30
    assert finding.evidence == (
        f"read as (x, y, width, height), {leaving.mean():.0%} of 60 boxes have no area or leave their image by more "
        "than 5% of its side; read as (x1, y1, x2, y2), 0.0% do by 1%"
    )
    first = int(np.flatnonzero(leaving)[0])
    assert f"annotations[{first}] (id {101 + first}, image id {first + 1}) of {first}.png" in finding.examples[0].text
    assert ", the image is 80 x 60" in finding.examples[0].text


@pytest.mark.parametrize("form", ["voc", "csv"])
def test_widths_in_the_place_of_corners_are_told(form: str) -> None:
    x, y, w, h = true_boxes().T  # the file has (x, y, w, h), which a reader takes for corners
    boxes = np.stack([x, y, w - x, h - y], axis=1)
    if form == "voc":  # counted from 1, both ends included; differences where there is no area
        boxes += np.stack([-np.ones(60), -np.ones(60), w > x, h > y], axis=1)
    finding = found_in(boxes, form)
    assert finding is not None
    assert finding.text == f"the boxes look like (x, y, width, height), where {form.upper()} has (x1, y1, x2, y2)"
    assert f"written as ({x[0]:.6g}, {y[0]:.6g}, {w[0]:.6g}, {h[0]:.6g})" in " ".join(
        example.text for example in found_all(boxes, form)
    )


def found_all(boxes: Numbers, form: str) -> tuple:  # type: ignore[type-arg]
    split = split_of(boxes, form)
    wide = Split(split.name, split.content, num_examples=1000)
    return find_other_reading(wide)[0].examples


def test_centres_in_a_coco_file_are_told() -> None:
    x, y, w, h = true_boxes(200).T
    finding = found_in(np.stack([x + w / 2, y + h / 2, w, h], axis=1))
    assert finding is not None
    assert finding.text.startswith("the boxes look like (centre x, centre y, width, height), where COCO")


def test_corners_in_a_yolo_file_are_told() -> None:
    x, y, w, h = true_boxes(200).T  # a reader takes (x1, y1, x2, y2) for (centre x, centre y, width, height)
    finding = found_in(np.stack([x - (x + w) / 2, y - (y + h) / 2, x + w, y + h], axis=1), "yolo")
    assert finding is not None
    assert finding.text.startswith("the boxes look like (x1, y1, x2, y2), where YOLO has (centre x")


@pytest.mark.parametrize("form", ["coco", "csv"])
def test_parts_of_the_sides_are_told(form: str) -> None:
    finding = found_in(true_boxes() / [80, 60, 80, 60], form)
    assert finding is not None
    assert (finding.check, finding.severity) == ("normalised-boxes", "error")
    assert finding.text == "60 of 60 boxes have four numbers between 0 and 1, expected pixels"


def test_large_objects_that_leave_their_image_a_little_are_not_taken_for_corners() -> None:
    boxes = np.tile([2.0, 2.0, 79.0, 59.0], (40, 1))  # beyond the border by a pixel, and x2 > x1 if read as corners
    assert found_in(boxes) is None


def test_a_few_wild_boxes_among_right_ones_are_not_taken_for_a_mix_up() -> None:
    boxes = true_boxes(200)
    boxes[:15, 2:] += 60
    assert found_in(boxes) is None


def test_a_few_boxes_that_leave_their_image_are_no_mix_up_even_if_all_could_be_corners() -> None:
    boxes = np.tile([2.0, 2.0, 70.0, 50.0], (200, 1))
    boxes[:8] = [20.0, 20.0, 78.0, 58.0]
    assert found_in(boxes) is None


def test_a_mixture_of_two_ways_is_left_to_the_other_checks() -> None:
    x, y, w, h = true_boxes().T
    written = np.stack([x, y, x + w, y + h], axis=1)
    written[::4] = [60, 40, 10, 10]
    assert found_in(written) is None


def test_boxes_that_no_reading_suits_are_left_to_the_other_checks() -> None:
    boxes = true_boxes()
    boxes[::2, 0] += 500
    assert found_in(boxes) is None


def test_unknown_sizes_and_no_boxes_are_fine() -> None:
    assert not find_other_reading(make_split({"a.png": []}))
    split = split_of(true_boxes() * 3)
    assert not find_other_reading(with_content(split, sizes=np.zeros_like(split.content.sizes)))


def test_boxes_without_area_are_not_called_parts_of_the_image() -> None:
    assert found_in(np.zeros((1, 4))) is None
