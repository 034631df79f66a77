"""The common form of datasets: parts of it, names of its images and boxes, and COCO files of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent, coco_document
from detector.structures import Categories
from tests.data.contents import make_content, random_coco

CONTENT = make_content(4, [(0, 0), (2, 1), (2, 2), (3, 0), (0, 1)])


@st.composite
def contents(draw: st.DrawFn) -> DatasetContent:
    """Any dataset that a COCO file can hold: ids in any order, sizes, areas and ids that are not given, any boxes."""
    num_images, num_classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    boxes = draw(st.lists(st.tuples(st.integers(0, num_images - 1), st.integers(0, num_classes - 1)), max_size=12))
    num_boxes = len(boxes)
    ids = st.lists(st.integers(0, 10**6), min_size=num_images, max_size=num_images, unique=True)
    sizes = draw(arrays(np.int64, (num_images, 2), elements=st.integers(1, 5000)))
    sizes[draw(arrays(np.bool_, num_images))] = UNKNOWN_SIZE
    own_ids = np.array(draw(st.permutations(range(num_boxes))), dtype=np.int64)
    own_ids[draw(arrays(np.bool_, num_boxes))] = -1
    category_ids = sorted(draw(st.sets(st.integers(0, 99), min_size=num_classes, max_size=num_classes)))
    content = make_content(
        num_images,
        boxes,
        image_ids=np.array(draw(ids), dtype=np.int64),
        sizes=sizes,
        file_names=[f"sub folder/ä {row}.jpg" for row in range(num_images)],
        boxes=draw(arrays(np.float64, (num_boxes, 4), elements=st.floats(-1e6, 1e6))),
        is_ignored=draw(arrays(np.bool_, num_boxes)),
        areas=draw(arrays(np.float64, num_boxes, elements=st.one_of(st.floats(0, 1e6), st.just(math.nan)))),
        annotation_ids=own_ids,
    )
    return replace(content, categories=Categories(tuple(category_ids), tuple(f"class {i}" for i in category_ids)))


def equal_columns(one: DatasetContent, other: DatasetContent, *names: str) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# As a COCO file


@settings(max_examples=60, deadline=None)
@given(contents())
def test_a_dataset_is_the_same_after_it_was_written_as_a_coco_file(
    tmp_path_factory: pytest.TempPathFactory, content: DatasetContent
) -> None:
    path = tmp_path_factory.mktemp("coco") / "a.json"
    path.write_text(json.dumps(coco_document(content)), encoding="utf-8")
    again = read_coco_json(path, Path("images"))
    equal_columns(again, content, "image_ids", "sizes", "boxes", "image_index", "labels", "is_ignored", "box_numbers")
    assert list(again.file_names) == list(content.file_names)
    assert again.categories == content.categories
    given_areas, given_ids = ~np.isnan(content.areas), content.annotation_ids >= 0
    np.testing.assert_array_equal(again.areas[given_areas], content.areas[given_areas])
    np.testing.assert_array_equal(again.areas[~given_areas], content.boxes[~given_areas, 2:].prod(axis=1))
    np.testing.assert_array_equal(again.annotation_ids[given_ids], content.annotation_ids[given_ids])
    assert len({*again.annotation_ids.tolist()}) == content.num_boxes
    assert all(again.annotation_ids[~given_ids] > 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_coco_file_that_lacks_nothing_is_written_as_it_is(tmp_path: Path, seed: int) -> None:
    document = random_coco(seed, with_gaps=False)
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    assert coco_document(read_coco_json(tmp_path / "a.json")) == document


def test_what_a_dataset_does_not_say_is_filled_in_or_left_out() -> None:
    content = make_content(
        2,
        [(0, 0), (1, 0), (1, 0)],
        sizes=np.array([[30, 40], [UNKNOWN_SIZE, UNKNOWN_SIZE]]),
        annotation_ids=np.array([-1, 7, -1]),
        areas=np.array([math.nan, 2.5, math.nan]),
        is_ignored=np.array([False, True, False]),
    )
    document = coco_document(content)
    assert document["images"] == [
        {"id": 100, "file_name": "img_0.png", "width": 40, "height": 30},
        {"id": 101, "file_name": "img_1.png"},
    ]
    found = [(entry["id"], entry["area"], entry["iscrowd"]) for entry in document["annotations"]]
    assert found == [(8, 2.0 * 3.0, 0), (7, 2.5, 1), (9, 4.0 * 5.0, 0)]


# Parts


def test_images_are_kept_in_their_order_with_their_boxes() -> None:
    part = CONTENT.select_images(np.array([2, 3]))
    assert part.image_ids.tolist() == [102, 103]
    assert list(part.file_names) == ["img_2.png", "img_3.png"]
    assert part.image_index.tolist() == [0, 0, 1]
    assert part.labels.tolist() == [1, 2, 0]
    assert part.annotation_ids.tolist() == [2, 3, 4]
    assert part.categories == CONTENT.categories
    flagged = CONTENT.select_images(np.array([False, False, True, True]))
    equal_columns(flagged, part, "image_ids", "image_index", "boxes", "labels", "box_numbers", "sizes")


def test_files_of_boxes_go_with_their_images() -> None:
    content = replace(CONTENT, format="voc", box_files=[f"Annotations/{row}.xml" for row in range(4)])
    part = content.select_images(np.array([1, 3]))
    assert part.box_files == ["Annotations/1.xml", "Annotations/3.xml"]
    assert part.describe_box(0) == "Annotations/3.xml, object 3"


def test_no_image_and_no_box_are_a_dataset_too() -> None:
    nothing = CONTENT.select_images(np.array([], dtype=np.int64))
    assert (nothing.num_images, nothing.num_boxes) == (0, 0)
    assert nothing.boxes_per_image().tolist() == []
    without_boxes = CONTENT.select_boxes(np.zeros(5, dtype=np.bool_))
    assert (without_boxes.num_images, without_boxes.num_boxes) == (4, 0)
    assert without_boxes.boxes_per_image().tolist() == [0, 0, 0, 0]
    assert without_boxes.select_classes(["dog"]).boxes.shape == (0, 4)
    assert coco_document(without_boxes)["annotations"] == []


def test_boxes_per_image_count_ignore_regions() -> None:
    content = replace(CONTENT, is_ignored=np.array([True, False, False, True, False]))
    assert content.boxes_per_image().tolist() == [2, 0, 2, 1]


def test_classes_are_kept_in_the_order_of_the_dataset_and_labels_follow() -> None:
    part = CONTENT.select_classes(["eel", "cat"])
    assert part.categories == Categories((10, 30), ("cat", "eel"))
    assert part.labels.tolist() == [0, 1, 0]
    assert part.image_index.tolist() == [0, 2, 3]
    assert part.num_images == 4


def test_a_part_leaves_the_whole_as_it_was() -> None:
    before = replace(CONTENT, labels=CONTENT.labels.copy(), image_index=CONTENT.image_index.copy())
    CONTENT.select_classes(["eel"]).labels[:] = 9
    CONTENT.select_images(np.array([2])).image_index[:] = 9
    equal_columns(CONTENT, before, "labels", "image_index")


# Names


def test_images_and_boxes_of_a_coco_file_are_named_by_their_ids() -> None:
    content = replace(CONTENT, annotation_ids=np.array([5, -1, 0, 1, 2]))
    assert content.describe_image(2) == "img_2.png (image id 102)"
    assert content.describe_box(0) == "annotations[0] (id 5, image id 100)"
    assert content.describe_box(1) == "annotations[1] (image id 102)"
    assert content.describe_box(2) == "annotations[2] (id 0, image id 102)"
    assert content.select_boxes(np.array([3])).describe_box(0) == "annotations[3] (id 1, image id 103)"


def test_images_and_boxes_of_other_formats_are_named_by_file_and_line() -> None:
    lines = {"box_numbers": np.array([1, 1, 2, 1, 4])}
    files = {"box_files": [f"labels/{row}.txt" for row in range(4)]}
    yolo = replace(CONTENT, format="yolo", **files, **lines)
    assert yolo.describe_image(2) == "img_2.png"
    assert yolo.describe_box(2) == "labels/2.txt:2"
    table = replace(CONTENT, format="csv", path=Path("data/boxes.csv"), **lines)
    assert table.describe_box(4) == "boxes.csv:4"
