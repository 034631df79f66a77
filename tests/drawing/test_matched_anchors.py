"""Training images: boxes, anchors, ignore regions and padding each look as they are said to."""

import numpy as np
import numpy.typing as npt
import pytest

from detector.drawing import matched_anchors
from detector.drawing.colors import class_color
from detector.drawing.matched_anchors import ANCHOR_COLOR, UNMATCHED_COLOR, draw_training_image

GREY = 90
Picture = npt.NDArray[np.uint8]


def draw(
    boxes: list[list[float]],
    anchors: list[list[list[float]]],
    *,
    ignore: list[bool] | None = None,
    zoom: int = 1,
    size: tuple[int, int] = (200, 250),
) -> Picture:
    image = np.full((220, 300, 3), 0, dtype=np.uint8)
    image[: size[0], : size[1]] = GREY
    return draw_training_image(
        image,
        size,
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.zeros(len(boxes), dtype=np.int64),
        np.array(ignore or [False] * len(boxes), dtype=np.bool_),
        [np.array(of_box, dtype=np.float32).reshape(-1, 4) for of_box in anchors],
        [len(of_box) for of_box in anchors],
        ["disc"],
        zoom,
    )


def count(picture: Picture, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color)).all(axis=2).sum())


@pytest.mark.parametrize("zoom", [1, 2])
def test_padding_is_hatched_and_the_image_left_as_it_is(zoom: int) -> None:
    picture = draw([], [], zoom=zoom)
    assert picture.shape == (220 * zoom, 300 * zoom, 3)
    assert (picture[: 198 * zoom, : 248 * zoom] == GREY).all()
    for padding in (picture[200 * zoom :], picture[: 200 * zoom, 250 * zoom :]):
        assert sorted(np.unique(padding).tolist()) == [60, 150]


def test_a_box_has_its_class_colour_and_its_anchors_are_green() -> None:
    picture = draw([[50, 60, 120, 140]], [[[40, 50, 110, 130], [100, 100, 180, 190]]])
    assert count(picture, class_color(0)) > 200
    assert count(picture, UNMATCHED_COLOR) == 0
    for x, y in ((40, 80), (150, 100), (179, 150), (130, 189)):
        assert tuple(picture[y, x]) == ANCHOR_COLOR
    assert count(draw([[50, 60, 120, 140]], [[[40, 50, 110, 130]]]), ANCHOR_COLOR) < count(picture, ANCHOR_COLOR)


def test_a_box_without_an_anchor_is_red() -> None:
    picture = draw([[50, 60, 120, 140]], [[]])
    assert count(picture, UNMATCHED_COLOR) > 200
    assert count(picture, class_color(0)) == count(picture, ANCHOR_COLOR) == 0


def test_an_ignore_region_is_hatched_and_not_red() -> None:
    picture = draw([[50, 60, 150, 160]], [[]], ignore=[True])
    inside = picture[100:150, 60:140]
    assert len(np.unique(inside)) == 2
    assert not (inside == GREY).any()
    assert (picture[170:195, 60:140] == GREY).all()
    assert count(picture, UNMATCHED_COLOR) == 0
    assert count(picture, class_color(0)) > 100


def test_anchors_beyond_the_picture_are_cut_off() -> None:
    picture = draw([[0, 0, 40, 40]], [[[-300, -300, 280, 280], [-10, -10, 50, 50]]])
    assert tuple(picture[20, 49]) == ANCHOR_COLOR
    assert picture.shape == (220, 300, 3)


def test_many_boxes_have_smaller_tags_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(matched_anchors, "draw_labelled_boxes", lambda *_, tag_size: sizes.append(tag_size))
    for number in (0, 1, 12, 13, 48, 500):
        draw([[10, 10, 20, 20]] * number, [[]] * number, zoom=6)
    assert sizes[0] == sizes[1] == sizes[2] > sizes[3] > sizes[4] > sizes[5] == 12
