import numpy as np
import pytest

from detector.drawing.tags import Tag, draw_tags, place_tags
from detector.drawing.text import line_height


def spans(tags: list[Tag | None]) -> list[tuple[int, int, int, int]]:
    assert None not in tags
    return [tag.span for tag in tags if tag is not None]


@pytest.mark.parametrize("text", ["person 0.97", "a class with a very long name indeed 0.50"])
@pytest.mark.parametrize("size", [(60, 90), (100, 300), (30, 20)])
def test_tags_stay_inside_the_image(text: str, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    corners = generator.uniform(-60, 360, (50, 2)).astype(int)
    boxes = [(int(x), int(y), int(x) + 40, int(y) + 30) for x, y in corners]
    for x1, y1, x2, y2 in spans(place_tags([text] * 50, boxes, 10, size)):
        assert 0 <= x1 < x2 <= size[1]
        assert 0 <= y1 < y2 <= size[0]


def test_a_tag_lies_above_its_box_where_there_is_room() -> None:
    (span,) = spans(place_tags(["cat"], [(40, 50, 90, 80)], 10, (100, 200)))
    assert span[0] == 40
    assert span[3] == 50


def test_tags_of_equal_boxes_do_not_cover_each_other() -> None:
    first, second = spans(place_tags(["cat", "dog"], [(40, 50, 90, 80)] * 2, 10, (100, 200)))
    assert first[3] <= second[1] or second[3] <= first[1]


def test_text_wider_than_the_image_is_shortened() -> None:
    (tag,) = place_tags(["traffic light 0.93"], [(0, 0, 30, 90)], 10, (100, 40))
    assert tag is not None
    assert "traffic light 0.93".startswith(tag.text)
    assert 2 <= len(tag.text) < 18


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (300, 8)])
def test_an_image_too_small_for_letters_has_no_tag(size: tuple[int, int]) -> None:
    tags = place_tags(["person"], [(0, 0, 8, 8)], 10, size)
    assert tags == [None]
    picture = np.zeros((*size, 3), dtype=np.uint8)
    draw_tags(picture, tags, [(255, 0, 0)], 10)
    assert not picture.any()


def test_a_tag_is_filled_with_its_colour_and_has_letters() -> None:
    tags = place_tags(["person"], [(20, 50, 90, 80)], 12, (100, 200))
    ((x1, y1, x2, y2),) = spans(tags)
    picture = np.zeros((100, 200, 3), dtype=np.uint8)
    draw_tags(picture, tags, [(240, 228, 66)], 12)
    assert y2 - y1 == line_height(12)
    inside = picture[y1:y2, x1:x2].copy()
    picture[y1:y2, x1:x2] = 0
    assert not picture.any()
    assert (inside == (240, 228, 66)).all(axis=2).mean() > 0.4
    assert (inside < 60).all(axis=2).any(), "black letters on yellow"
