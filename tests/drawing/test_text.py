from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from detector.drawing import text as module
from detector.drawing.text import has_glyph, line_height, readable_name, render_text

needs_opencv_5 = pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has no font beyond ASCII")


@pytest.fixture(params=["opencv", "pillow"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a test with each of the two fonts."""
    if request.param == "opencv" and not hasattr(cv2, "FontFace"):
        pytest.skip("OpenCV 4")
    if request.param == "pillow":
        monkeypatch.delattr(cv2, "FontFace", raising=False)
    for function in (render_text, has_glyph):
        function.cache_clear()
    yield request.param
    for function in (render_text, has_glyph):
        function.cache_clear()


@pytest.mark.parametrize("size", [6, 10, 17, 40])
def test_text_is_tight_left_and_right_and_as_high_as_its_line(font: str, size: int) -> None:
    mask = render_text("Ågjpq|{ 0.97", size)
    assert mask.shape[0] == line_height(size)
    assert mask[:, 0].any()
    assert mask[:, -1].any()


@pytest.mark.parametrize("size", [10, 17, 40])
def test_no_letter_is_cut_above_or_below(font: str, size: int) -> None:
    mask = render_text("gjpqyÅÉç Tbdfkl |{}()[] WMQ", size)
    assert not mask[0].any()
    assert not mask[-1].any()


def test_a_long_text_is_neither_wrapped_nor_cut(font: str) -> None:
    single = render_text("W", 20).shape[1]
    assert render_text("W" * 60, 20).shape[1] > 59 * single


def test_blank_text_has_no_columns(font: str) -> None:
    assert render_text("", 12).shape == (line_height(12), 0)
    assert render_text("  ", 12).shape == (line_height(12), 0)


def test_ascii_names_are_shown_as_they_are(font: str) -> None:
    assert readable_name("traffic light_2 (old)?", 0) == "traffic light_2 (old)?"


def test_line_breaks_and_symbols_do_not_reach_the_tag(font: str) -> None:
    assert readable_name("hot\n dog \U0001f32d", 5) == "hot dog"


@pytest.mark.parametrize("name", ["", " \n", "\U0001f436", "ไทย", "x ไทย"])
def test_a_name_that_cannot_be_shown_gives_way_to_the_class_number(font: str, name: str) -> None:
    assert readable_name(name, 7) == "class 7"


@needs_opencv_5
@pytest.mark.parametrize("name", ["Köter", "Größe", "smörgåsbord", "猫", "자동차", "Кошка", "γάτα", "naïve ñ"])
def test_names_in_many_scripts_are_shown_as_they_are(name: str) -> None:
    assert readable_name(name, 7) == name
    assert not np.array_equal(render_text(name, 20), render_text("?" * len(name), 20))


def test_without_the_large_font_accents_are_dropped_and_other_scripts_numbered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "has_glyph", str.isascii)
    assert readable_name("Köter", 3) == "Koter"
    assert readable_name("K\u006f\u0308ter", 3) == "Koter"
    assert readable_name("猫", 3) == "class 3"
    assert readable_name("Größe", 3) == "class 3", "a lost letter would make another word"


def test_names_that_are_no_text_are_drawn_with_question_marks(font: str) -> None:
    np.testing.assert_array_equal(render_text("caf\udce9.png\x1b", 12), render_text("caf?.png?", 12))
