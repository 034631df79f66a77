"""Boxes that stand twice are found, as many as by comparing each with each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detector.inspect.doctor.box_pairs import NEAR_IOU, near_pairs, repeated_boxes
from tests.inspect.doctor.made_sets import checked, make_split, with_content

NO_ROWS = np.empty(0, dtype=np.int64)
BOX = ("cat", 5.0, 6.0, 30.0, 20.0)


def test_a_box_that_stands_twice_is_named_with_its_original() -> None:
    found = checked(make_split({"a.png": [BOX, ("dog", 40, 10, 25, 30)], "b.png": [BOX, BOX, BOX]}))
    finding = found.pop("duplicate-boxes")
    assert not found
    assert (finding.severity, finding.count) == ("warning", 2)
    assert finding.examples[0].text == (
        "annotations[3] (id 104, image id 2) of b.png: 'cat' at (5, 6), 30 x 20 px; "
        "the same as annotations[2] (id 103, image id 2) of b.png: 'cat' at (5, 6), 30 x 20 px"
    )
    assert [example.boxes for example in finding.examples] == [(3, 2), (4, 2)]


def test_the_same_place_under_two_classes_is_a_contradiction() -> None:
    found = checked(make_split({"a.png": [BOX, ("dog", 6, 6, 30, 20)]}))
    finding = found.pop("contradicting-boxes")
    assert not found
    assert finding.severity == "warning"
    assert finding.text == "boxes of two classes with an IoU of 0.9 or more: 1 pair"
    assert "annotations[1] (id 102, image id 1) of a.png: 'dog'" in finding.examples[0].text
    assert "almost the same place as annotations[0] (id 101" in finding.examples[0].text


def test_almost_the_same_box_of_one_class_is_told() -> None:
    found = checked(make_split({"a.png": [BOX, ("cat", 5.5, 6, 30, 20), ("dog", 40, 10, 25, 30)]}))
    assert list(found) == ["near-duplicate-boxes"]


def test_boxes_of_other_images_are_no_duplicates() -> None:
    assert not checked(make_split({"a.png": [BOX, ("dog", 40, 10, 25, 30)], "b.png": [BOX]}))


def test_a_crowd_over_an_object_is_no_contradiction() -> None:
    split = make_split({"a.png": [BOX, ("dog", 5, 6, 30, 20), ("dog", 40, 10, 25, 30)]})
    assert list(checked(with_content(split, is_ignored=np.array([False, True, False])))) == ["ignore-regions"]


@pytest.mark.parametrize("seed", range(3))
def test_near_pairs_are_those_that_comparing_each_with_each_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.uniform(20, 40, (400, 2)).round()  # few different ones, so that many boxes are close
    boxes = np.concatenate([centres - 10, np.full((400, 2), 18.0)], axis=1) + rng.normal(0, 0.5, (400, 4))
    names = rng.choice(["cat", "dog"], 400)
    split = make_split(
        {f"{i}.png": [(names[j], *boxes[j]) for j in range(i * 100, i * 100 + 100)] for i in range(4)}, size=(90, 90)
    )
    corners = torch.from_numpy(split.cleaned.corners)
    iou = box_iou(corners, corners).numpy()
    is_pair = (iou >= NEAR_IOU) & (split.content.image_index[:, None] == split.content.image_index)
    expected = {(i, j) for i, j in np.argwhere(np.triu(is_pair, 1)).tolist()}
    first, second = near_pairs(split, NO_ROWS)
    assert len(expected) > 50
    assert len(first) == len(expected)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_repetitions_are_those_that_a_dictionary_finds() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.integers(0, 4, (3000, 4)).astype(np.float64)
    boxes[boxes == 0] *= rng.choice([1.0, -1.0], (boxes == 0).sum())  # minus zero is zero
    boxes[:, 2:] += 1
    rows = [(rng.choice(["cat", "dog"]), *box) for box in boxes.tolist()]
    split = make_split({f"{i}.png": rows[i * 300 : i * 300 + 300] for i in range(10)})
    split = with_content(split, is_ignored=rng.random(3000) < 0.3)
    content, seen, expected = split.content, {}, []
    for row in range(3000):
        key = (content.image_index[row], content.labels[row], content.is_ignored[row], *(content.boxes[row] + 0.0))
        if key in seen:
            expected.append((row, seen[key]))
        seen.setdefault(key, row)
    repeats, originals = repeated_boxes(split, content.boxes)
    assert list(zip(repeats.tolist(), originals.tolist(), strict=True)) == expected
    assert len(expected) > 400


def test_no_boxes_give_no_pairs() -> None:
    split = replace(make_split({"a.png": []}))
    assert [len(rows) for rows in (*repeated_boxes(split, split.content.boxes), *near_pairs(split, NO_ROWS))] == [0] * 4
