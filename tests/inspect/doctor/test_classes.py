"""Classes: unknown, missing, shifted, misspelt, of the background, without boxes, out of balance."""

from collections.abc import Sequence

import pytest

from detector.inspect.doctor import Split, check_splits
from detector.structures import Categories
from tests.inspect.doctor.made_sets import SCALE, checked, make_split, with_content


def split_of(
    names: dict[str, int], split: str = "train", form: str = "coco", ids: Sequence[int] | None = None
) -> Split:
    """A split with so many boxes of each class, each in an image of its own."""
    boxes = [name for name, count in names.items() for _ in range(count)]
    images = {f"{split}{i}.png": [(name, 5, 6, 30, 20)] for i, name in enumerate(boxes)}
    made = make_split(images, split, classes=tuple(names))
    files = None if form in ("coco", "csv") else [f"{i}.xml" for i in range(len(boxes))]
    categories = Categories(tuple(range(1, len(names) + 1)) if ids is None else tuple(ids), tuple(names))
    return with_content(made, format=form, box_files=files, categories=categories)


def test_an_unknown_class_of_val_is_an_error_with_its_first_box_and_what_may_be_meant() -> None:
    train, val = split_of({"RBC": 3, "Platelets": 2}, form="voc"), split_of({"RBC": 2, "platelet": 2}, "val", "voc")
    found = checked(train, val)
    finding = found.pop("unknown-classes")
    assert list(found) == ["missing-classes"]
    assert found["missing-classes"].severity == "note"
    assert (finding.severity, finding.where, finding.count) == ("error", "train and val", 1)
    assert finding.text == "classes of val that train does not have: 'platelet'"
    assert finding.examples[0].text.startswith(
        "'platelet', 2 boxes; did you mean 'Platelets'?: 2.xml, object 2: 'platelet' at (5, 6)"
    )
    assert finding.evidence == "train has 'RBC', 'Platelets'"


def test_lists_of_classes_must_be_the_same_also_without_boxes() -> None:
    train, val = split_of({"cat": 1, "dog": 1, "cow": 1}), split_of({"cat": 1, "dog": 1, "hen": 0}, "val")
    found = checked(train, val)
    assert {name: found[name].severity for name in found} == {"unknown-classes": "error", "missing-classes": "error"}
    assert "'hen', 0 boxes" in found["unknown-classes"].examples[0].text
    assert "'cow'" in found["missing-classes"].text


def test_classes_in_another_order_are_an_error_that_names_the_ids() -> None:
    found = checked(split_of({"cat": 1, "dog": 1}), split_of({"dog": 1, "cat": 1}, "val"))
    finding = found.pop("shifted-classes")
    assert not found
    assert (finding.severity, finding.count) == ("error", 2)
    assert finding.text.endswith("scored as other classes: 'cat', 'dog'")
    assert finding.examples[0].text == "'cat' has the id 1 in train and 2 in val, where 1 is 'dog'"


def test_formats_without_a_list_of_classes_are_matched_by_name() -> None:
    train, val = split_of({"cat": 1, "dog": 1}, form="voc"), split_of({"dog": 1, "cat": 1}, "val", "voc")
    assert not checked(train, val)


def test_classes_with_boxes_in_one_split_alone_are_told() -> None:
    found = checked(split_of({"cat": 2, "dog": 0, "hen": 1}), split_of({"cat": 0, "dog": 2, "hen": 1}, "val"))
    assert found["classes-never-learnt"].severity == "warning"
    assert "'dog'" in found["classes-never-learnt"].text
    assert found["classes-never-scored"].severity == "note"
    assert "'cat'" in found["classes-never-scored"].text
    assert set(found) == {"classes-never-learnt", "classes-never-scored", "classes-without-boxes"}


@pytest.mark.parametrize("other", ["Platelets", "platelets ", "PLATELETS"])
def test_two_spellings_of_a_class_are_a_warning_with_their_boxes(other: str) -> None:
    found = checked(split_of({"platelets": 3, other: 2} if other != "platelets" else {}))
    finding = found.pop("respelt-classes")
    assert not found
    assert finding.severity == "warning"
    assert finding.examples[0].text == f"'platelets' (3 boxes in train) and {other!r} (2 boxes in train)"


def test_words_joined_in_other_ways_are_the_same_name() -> None:
    assert "respelt-classes" in checked(split_of({"traffic light": 1, "traffic_light": 1, "car": 1}))


def test_names_that_differ_by_a_letter_are_a_note() -> None:
    found = checked(split_of({"platelets": 3, "platelet": 2, "white cell": 1, "withe cell": 1}))
    finding = found.pop("similar-class-names")
    assert not found
    assert (finding.severity, finding.count) == ("note", 2)
    assert finding.text.endswith("'platelets', 'platelet'; 'white cell', 'withe cell'")


def test_a_name_with_hardly_a_box_beside_a_similar_one_is_a_warning() -> None:
    found = checked(split_of({"platelets": 100, "platelet": 2}))
    assert found["similar-class-names"].severity == "warning"


def test_names_of_their_own_are_not_called_similar() -> None:
    names = ("car", "cart", "horse", "house", "type 1", "type 2", "class_10", "class_11", "person", "bear", "pear")
    assert not checked(split_of(dict.fromkeys(names, 1)))


def test_a_thousand_names_take_no_time() -> None:
    names = {f"{word} {chr(97 + i % 26) * 3} {i}": 1 for i, word in enumerate(["thing", "object"] * 600)}
    assert not checked(split_of(names))


@pytest.mark.parametrize("name", ["background", "__background__", "BG", "none"])
@pytest.mark.parametrize(("count", "severity"), [(0, "note"), (2, "warning")])
def test_a_class_for_the_background_is_told(name: str, count: int, severity: str) -> None:
    found = checked(split_of({name: count, "cat": 2, "dog": 2}, ids=(0, 1, 2)))
    finding = found.pop("background-class")
    assert not found
    assert finding.severity == severity
    assert finding.text.startswith(f"class {name!r} (id 0) has {count} boxes")
    assert finding.remedy == 'remove the class, or leave it out with \'data.classes=["cat", "dog"]\''


def test_the_parent_class_of_roboflow_is_told_with_its_remedy() -> None:
    train, val = (
        split_of({"cells": 0, "RBC": 2, "WBC": 1}, ids=(0, 1, 2)),
        split_of({"cells": 0, "RBC": 2, "WBC": 1}, "val", ids=(0, 1, 2)),
    )
    found = checked(train, val)
    finding = found.pop("parent-class")
    assert not found
    assert finding.severity == "note"
    assert finding.text.startswith("class 'cells' has the id 0 and no boxes")
    assert finding.remedy == 'leave it out with \'data.classes=["RBC", "WBC"]\''


def test_an_id_0_with_boxes_is_no_parent() -> None:
    assert not checked(split_of({"cat": 1, "dog": 1}, ids=(0, 1)))


def test_classes_without_boxes_are_a_note() -> None:
    finding = checked(split_of({"cat": 1, "cow": 0, "dog": 1, "hen": 0}))["classes-without-boxes"]
    assert finding.severity == "note"
    assert finding.text == "2 of 4 classes without boxes: 'cow', 'hen'"


def test_a_dominating_class_is_a_note() -> None:
    found = checked(split_of({"RBC": 30, "WBC": 3, "other": 5}))
    finding = found.pop("class-imbalance")
    assert not found
    assert finding.severity == "note"
    assert finding.text == "'RBC' dominates with 30 of 38 boxes (79%); 'WBC' has 3"
    assert [example.text for example in finding.examples] == ["'WBC': 3"]
    assert "data.repeat_thresh" in finding.remedy
    assert not checked(split_of({"RBC": 29, "WBC": 3}))


def test_a_third_split_is_compared_too() -> None:
    splits = [
        split_of({"cat": 1, "dog": 1}),
        split_of({"cat": 1, "dog": 1}, "val"),
        split_of({"cat": 1, "hen": 1}, "test"),
    ]
    where = {finding.where for finding in check_splits(splits, **SCALE) if finding.check == "unknown-classes"}
    assert where == {"train and test"}
