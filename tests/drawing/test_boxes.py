import numpy as np
import numpy.typing as npt
import pytest
import torch

from detector.drawing import class_color, draw_detections, side_by_side

NAMES = ("person", "Köter", "猫", "traffic light")


def grey(height: int, width: int, value: int = 120) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), value, dtype=np.uint8)


def changed(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = (before != after).any(axis=2)
    return result


def test_drawing_leaves_the_input_untouched_and_returns_a_new_image() -> None:
    image = grey(200, 300)
    picture = draw_detections(image, [[50, 60, 150, 140]], [0], [0.9], NAMES)
    assert (image == 120).all()
    assert not np.shares_memory(image, picture)
    assert changed(image, picture).any()


def test_no_boxes_give_an_equal_copy() -> None:
    image = grey(40, 60)
    picture = draw_detections(image, np.zeros((0, 4)), [], None, NAMES)
    np.testing.assert_array_equal(picture, image)
    assert not np.shares_memory(image, picture)


@pytest.mark.parametrize("size", [(200, 300), (900, 1200)])
def test_the_edge_has_the_class_colour_and_neither_inside_nor_outside_change(size: tuple[int, int]) -> None:
    image = grey(*size)
    x1, y1, x2, y2 = 50, 100, 150, 180
    mask = changed(image, picture := draw_detections(image, [[x1, y1, x2, y2]], [0], None, NAMES))
    for edge in (picture[y1, x1:x2], picture[y2 - 1, x1:x2], picture[y1:y2, x1], picture[y1:y2, x2 - 1]):
        np.testing.assert_array_equal(edge, np.broadcast_to(class_color(0), edge.shape))
    margin = 4  # half the line and its rim, at the larger of the two sizes
    assert not mask[y1 + margin : y2 - margin, x1 + margin : x2 - margin].any()
    assert not mask[y2 + margin :].any()
    assert not mask[:, : x1 - margin].any()
    assert not mask[: y1 - 50].any(), "only the tag lies above the box"


def test_a_box_is_drawn_on_the_first_and_last_pixel_that_it_touches() -> None:
    picture = draw_detections(grey(100, 100), [[20.6, 30.2, 40.0, 50.4]], [0], None, NAMES)
    is_line = (picture == class_color(0)).all(axis=2)
    # Below the tag: columns 20 (holds 20.6) and 39 (ends at 40.0); the last row is 50 (holds 50.4).
    assert np.flatnonzero(is_line[45]).tolist() == [20, 39]
    assert np.flatnonzero(is_line[:, 30])[-1] == 50


def test_tensors_lists_and_arrays_give_the_same_picture() -> None:
    boxes, labels, scores = [[10.0, 20.0, 60.0, 70.0], [30.0, 30.0, 90.0, 80.0]], [1, 3], [0.75, 0.5]
    expected = draw_detections(grey(100, 100), boxes, labels, scores, NAMES)
    as_tensors = draw_detections(
        grey(100, 100), torch.tensor(boxes), torch.tensor(labels), torch.tensor(scores, dtype=torch.float64), NAMES
    )
    np.testing.assert_array_equal(as_tensors, expected)


@pytest.mark.parametrize(
    "box", [[np.nan, 1, 5, 5], [1, 1, np.inf, 5], [30, 10, 20, 40], [200, 10, 220, 40], [-50, 0, -10, 40]]
)
def test_boxes_that_are_not_finite_inverted_or_outside_are_not_drawn(box: list[float]) -> None:
    image = grey(100, 100)
    np.testing.assert_array_equal(draw_detections(image, [box], [0], [0.5], NAMES), image)


def test_a_score_that_is_not_finite_is_not_written() -> None:
    image, box = grey(100, 200), [[20, 40, 80, 90]]
    without = draw_detections(image, box, [0], None, NAMES)
    np.testing.assert_array_equal(draw_detections(image, box, [0], [np.nan], NAMES), without)
    assert changed(without, draw_detections(image, box, [0], [0.5], NAMES)).any()


def test_a_huge_box_around_the_image_shows_no_edge() -> None:
    image = grey(60, 200)
    picture = draw_detections(image, [[-1e30, -1e30, 1e30, 1e30]], [0], None, NAMES)
    assert not changed(image, picture)[20:].any()  # the tag alone, at the top


def test_the_best_detection_lies_on_top_whatever_the_order() -> None:
    box = [10, 40, 90, 90]
    first = draw_detections(grey(100, 100), [box, box], [0, 1], [0.9, 0.4], NAMES)
    second = draw_detections(grey(100, 100), [box, box], [1, 0], [0.4, 0.9], NAMES)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[80, 10], class_color(0))


def test_without_scores_a_small_box_lies_on_top_of_a_large_one() -> None:
    boxes = [[10, 40, 40, 70], [10, 40, 90, 90]]
    picture = draw_detections(grey(100, 100), boxes, [0, 1], None, NAMES)
    np.testing.assert_array_equal(picture[60, 10], class_color(0))


def test_ignore_regions_are_dashed() -> None:
    image, box = grey(200, 200), [[20, 60, 180, 180]]
    solid = draw_detections(image, box, [0], None, NAMES)
    dashed = draw_detections(image, box, [0], None, NAMES, ignore=[True])
    bottom_solid, bottom_dashed = ((p[179, 30:170] == class_color(0)).all(axis=1) for p in (solid, dashed))
    assert bottom_solid.all()
    assert 0.3 < bottom_dashed.mean() < 0.7


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (8, 200), (200, 8), (33, 47)])
@pytest.mark.parametrize("scores", [None, [0.5, 0.25, 1.0]])
def test_images_of_any_size_can_be_drawn_on(size: tuple[int, int], scores: list[float] | None) -> None:
    boxes = [[0, 0, size[1], size[0]], [-3, -3, 2, 2], [size[1] - 1, size[0] - 1, size[1] + 9, size[0] + 9]]
    picture = draw_detections(grey(*size), boxes, [0, 2, 3], scores, NAMES)
    assert picture.shape == (*size, 3)
    assert picture.dtype == np.uint8


def test_zoom_enlarges_the_image_and_the_boxes() -> None:
    image = grey(50, 80)
    picture = draw_detections(image, [[10, 30, 60, 45]], [0], None, NAMES, zoom=3)
    assert picture.shape == (150, 240, 3)
    np.testing.assert_array_equal(picture[45 * 3 - 1, 100], class_color(0))


def test_a_label_without_a_name_is_named_by_its_number() -> None:
    image, box = grey(100, 200), [[20, 40, 80, 90]]
    expected = draw_detections(image, box, [4], None, (*NAMES, "class 4"))
    np.testing.assert_array_equal(draw_detections(image, box, [4], None, NAMES), expected)
    draw_detections(image, box, [-1], None, NAMES)


def test_wrong_shapes_and_types_are_named() -> None:
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], found float64 \[4, 4, 3\]"):
        draw_detections(np.zeros((4, 4, 3)), [], [], None, NAMES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels: expected \[1\] like the boxes, found \[2\]"):
        draw_detections(grey(9, 9), [[1, 1, 2, 2]], [0, 1], None, NAMES)
    with pytest.raises(ValueError, match=r"scores: expected \[1\]"):
        draw_detections(grey(9, 9), [[1, 1, 2, 2]], [0], [], NAMES)
    with pytest.raises(ValueError, match="zoom: expected 1 or more, found 0"):
        draw_detections(grey(9, 9), [], [], None, NAMES, zoom=0)


@pytest.mark.parametrize(("left", "right"), [((60, 80), (40, 100)), ((8, 8), (8, 8)), ((1, 1), (200, 3))])
def test_side_by_side_keeps_both_pictures_below_a_caption(left: tuple[int, int], right: tuple[int, int]) -> None:
    picture = side_by_side(grey(*left, 10), grey(*right, 250), ("predictions", "ground truth"))
    caption = picture.shape[0] - max(left[0], right[0])
    assert caption > 0
    np.testing.assert_array_equal(picture[caption : caption + left[0], : left[1]], grey(*left, 10))
    np.testing.assert_array_equal(picture[caption : caption + right[0], -right[1] :], grey(*right, 250))


def test_side_by_side_writes_the_titles() -> None:
    with_titles = side_by_side(grey(60, 120), grey(60, 120), ("predictions", "ground truth"))
    without = side_by_side(grey(60, 120), grey(60, 120), ("", ""))
    mask = changed(without, with_titles)
    caption = with_titles.shape[0] - 60
    assert mask[:caption, :120].any()
    assert mask[:caption, -120:].any()
    assert not mask[caption:].any()
