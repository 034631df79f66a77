"""Which images and boxes of a dataset are used."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.data.formats.content import DatasetContent
from detector.data.selection import hold_out, limit_empty_images, number_by, select_classes, take_fraction
from detector.errors import UserError
from detector.structures import Categories
from tests.data.contents import make_content

NAMED = make_content(6, [(0, 0), (0, 1), (2, 2), (3, 2)])


def named(file_names: list[str]) -> DatasetContent:
    return make_content(len(file_names), file_names=file_names)


# hold_out


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_every_image_is_on_one_side_and_the_second_has_its_share(num_images: int, fraction: float, seed: int) -> None:
    train, val = hold_out(make_content(num_images), fraction=fraction, seed=seed)
    assert sorted([*train, *val]) == list(range(num_images))
    assert list(train) == sorted(train)
    assert list(val) == sorted(val)
    assert len(train) >= 1
    assert len(val) >= 1
    assert abs(len(val) - fraction * num_images) <= 0.5 + 1e-9 or 1 in (len(train), len(val))


# 0.07 * 100 is 7.000000000000001.
@pytest.mark.parametrize(("fraction", "num_images", "expected"), [(0.07, 100, 7), (0.1, 30, 3), (0.2, 364, 73)])
def test_a_share_is_rounded_and_not_raised_by_a_rounding_error(fraction: float, num_images: int, expected: int) -> None:
    assert len(hold_out(make_content(num_images), fraction=fraction, seed=0)[1]) == expected


def test_the_same_seed_holds_out_the_same_files_in_whatever_order_they_are() -> None:
    content = make_content(40)
    held_out = {content.file_names[row] for row in hold_out(content, fraction=0.3, seed=5)[1]}
    backwards = content.select_images(np.arange(40))
    backwards = named(list(reversed(backwards.file_names)))
    assert {backwards.file_names[row] for row in hold_out(backwards, fraction=0.3, seed=5)[1]} == held_out
    assert {content.file_names[row] for row in hold_out(content, fraction=0.3, seed=6)[1]} != held_out


@settings(max_examples=80)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=20), st.floats(0.05, 0.95), st.integers(0, 5))
def test_groups_are_never_split_and_the_share_is_missed_by_half_a_group_at_most(
    group_sizes: list[int], fraction: float, seed: int
) -> None:
    names = [f"p{group}_{i}.png" for group, size in enumerate(group_sizes) for i in range(size)]
    train, val = hold_out(named(names), fraction=fraction, seed=seed, group=r"^(p[0-9]+)_")
    sides = defaultdict(set)
    for side, rows in (("train", train), ("val", val)):
        for row in rows:
            sides[names[row].partition("_")[0]].add(side)
    assert all(len(found) == 1 for found in sides.values())
    held_out = [size for group, size in enumerate(group_sizes) if sides[f"p{group}"] == {"val"}]
    assert 1 <= len(held_out) < len(group_sizes)
    missing = fraction * len(names) - sum(held_out)
    assert missing >= -max(group_sizes) / 2 - 1e-9 or held_out == [min(group_sizes)]


def test_one_huge_group_does_not_become_the_validation_set() -> None:
    names = [f"a_{i}" for i in range(90)] + [f"{letter}_0" for letter in "bcdefghijk"]
    for seed in range(20):
        _, val = hold_out(named(names), fraction=0.1, seed=seed, group="^[a-z]")
        assert len(val) <= 10
        assert not any(names[row].startswith("a_") for row in val)


def test_the_whole_match_counts_where_the_expression_has_no_group() -> None:
    names = ["day1/a.png", "day1/b.png", "day2/a.png", "day2/b.png"]
    train, val = hold_out(named(names), fraction=0.5, seed=0, group=r"day\d")
    assert {tuple(train), tuple(val)} == {(0, 1), (2, 3)}


@pytest.mark.parametrize("pattern", ["^(s[0-9])_", "^(?:x|(s[0-9])_)"])  # the second also matches without its group
def test_images_without_a_match_stand_alone(pattern: str) -> None:
    names = [*(f"s1_{i}" for i in range(10)), *(f"x{i}" for i in range(10))]
    for seed in range(20):
        train, val = hold_out(named(names), fraction=0.3, seed=seed, group=pattern)
        assert {*range(10)} <= {*train.tolist()} or {*range(10)} <= {*val.tolist()}
        if val.min() >= 10:
            assert len(val) == 6
            break
    else:
        raise AssertionError("the images without a match are never held out by themselves")


def test_two_entries_of_one_file_are_never_on_both_sides() -> None:
    for seed in range(20):
        train, val = hold_out(named(["a", "b", "c", "a"]), fraction=0.5, seed=seed)
        assert ({0, 3} <= {*train.tolist()}) or ({0, 3} <= {*val.tolist()})


@pytest.mark.parametrize(
    ("file_names", "group", "message"),
    [
        (["a.png"], None, r"^a\.json: no part of it can be held out: it has one image; expected at least two$"),
        (
            ["s1_a", "s1_b"],
            "^s1",
            r"no part of it can be held out: all its images are of one group by '\^s1'; expected at least two$",
        ),
        (["a", "a"], None, r"no part of it can be held out: it has one image; expected at least two$"),
    ],
)
def test_a_dataset_that_cannot_be_divided_is_an_error(file_names: list[str], group: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hold_out(named(file_names), fraction=0.2, seed=0, group=group)


# Classes


def test_chosen_classes_keep_their_ids_and_the_order_of_the_dataset() -> None:
    chosen = select_classes(NAMED, ["eel", "cat"])
    assert chosen.categories == Categories((10, 30), ("cat", "eel"))
    assert chosen.labels.tolist() == [0, 1, 1]
    assert chosen.annotation_ids.tolist() == [1, 3, 4]
    assert chosen.num_images == 6


def test_unknown_classes_are_named_with_those_there_are() -> None:
    with pytest.raises(
        UserError,
        match=r"^data\.classes: a\.json has no class 'Dog', 'fox'; it has cat, dog, eel; did you mean 'dog'\?$",
    ):
        select_classes(NAMED, ["Dog", "fox", "cat"])
    with pytest.raises(UserError, match=r"has no class 'zebra'; it has cat, dog, eel$"):
        select_classes(NAMED, ["zebra"])


def test_classes_are_numbered_by_name_like_those_of_another_dataset() -> None:
    others = Categories((1, 2, 3, 4), ("dog", "ape", "eel", "cat"))
    numbered = number_by(NAMED, others)
    assert numbered.categories == others
    assert numbered.labels.tolist() == [3, 0, 2, 2]
    assert number_by(make_content(2), others).labels.tolist() == []


def test_a_class_that_no_box_has_may_be_missing_in_the_other_dataset() -> None:
    assert number_by(make_content(2, [(0, 2)]), Categories((7,), ("eel",))).labels.tolist() == [0]


def test_a_box_of_a_class_that_the_other_dataset_lacks_is_named() -> None:
    with pytest.raises(
        UserError,
        match=r"^a\.json: annotations\[2\] \(id 3, image id 102\): unknown class 'eel' \(2 such boxes\), expected one "
        r"of cat, dog, Eels; did you mean 'Eels'\?$",
    ):
        number_by(NAMED, Categories((1, 2, 3), ("cat", "dog", "Eels")))


# Parts


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, 10), (0.5, 5), (0.24, 2), (0.001, 1)])
def test_a_fraction_of_the_images_is_drawn_by_the_seed(fraction: float, expected: int) -> None:
    content = make_content(10, [(row, 0) for row in range(10)])
    part = take_fraction(content, fraction, 3)
    assert part.num_images == part.num_boxes == expected
    assert part.image_ids.tolist() == sorted(part.image_ids.tolist())
    assert part.image_ids[part.image_index].tolist() == (99 + part.annotation_ids).tolist()
    assert take_fraction(content, fraction, 3).file_names == part.file_names
    assert part.categories == content.categories
    if expected == 5:
        assert take_fraction(content, fraction, 4).file_names != part.file_names


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0, 0.99), st.integers(0, 3))
def test_images_without_boxes_are_at_most_their_part_and_as_many_as_that_allows(
    has_box: list[bool], limit: float, seed: int
) -> None:
    content = make_content(len(has_box), [(row, 0) for row, found in enumerate(has_box) if found])
    limited = limit_empty_images(content, limit, seed)
    num_boxes, num_empty = limited.num_boxes, int((limited.boxes_per_image() == 0).sum())
    assert num_boxes == sum(has_box)
    assert num_empty <= limit * limited.num_images + 1e-6
    if num_empty < len(has_box) - num_boxes:
        assert num_empty + 1 > limit * (limited.num_images + 1) - 1e-6
    assert limited.image_ids.tolist() == sorted(limited.image_ids.tolist())


def test_which_images_without_boxes_stay_is_drawn_by_the_seed() -> None:
    content = make_content(40, [(row, 0) for row in range(0, 40, 2)])
    chosen = [tuple(limit_empty_images(content, 0.2, seed).image_ids.tolist()) for seed in (0, 0, 1)]
    assert len(chosen[0]) == 25  # 5 of 25 have no box
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


def test_a_part_that_is_reached_exactly_is_not_missed_by_a_rounding_error() -> None:
    content = make_content(9, [(0, 0), (1, 0)])
    assert limit_empty_images(content, 0.6, 0).num_images == 5  # 0.6 / 0.4 * 2 is 2.9999999999999996


def test_an_image_with_ignore_regions_only_is_not_without_boxes() -> None:
    content = make_content(3, [(0, 0), (1, 0)], is_ignored=np.array([False, True]))
    assert limit_empty_images(content, 0.0, 0).image_ids.tolist() == [100, 101]


def test_an_image_whose_boxes_training_drops_is_without_boxes() -> None:
    content = make_content(4, [(0, 0), (1, 0), (2, 0)])
    content.boxes[1, 2:] = 0  # no area
    content.boxes[2, 0] = 41  # right of the image, which is 40 pixels wide
    assert limit_empty_images(content, 0.0, 0).image_ids.tolist() == [100]
