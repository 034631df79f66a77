"""Pictures under captions, and sheets of them."""

import numpy as np
import numpy.typing as npt
import pytest

from detector.drawing.contact_sheet import contact_sheet, with_caption


def plain(height: int, width: int, value: int) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_a_caption_stands_above_the_picture_and_grows_with_its_lines() -> None:
    picture = plain(50, 200, 77)
    one, two = (with_caption(picture, lines, 12) for lines in (["first"], ["first", "second"]))
    for captioned in (one, two):
        np.testing.assert_array_equal(captioned[-50:], picture)
    assert two.shape[0] - 50 > one.shape[0] - 50 > 10
    assert (one[:-50] == 255).any()  # letters


@pytest.mark.parametrize("width", [1, 9, 40])
def test_a_caption_that_is_too_wide_is_cut(width: int) -> None:
    assert with_caption(plain(20, width, 0), ["a long caption"], 14).shape[1] == width


@pytest.mark.parametrize(
    ("number", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (7, 3, 3), (16, 4, 4), (20, 4, 5)]
)
def test_a_sheet_has_as_many_rows_as_columns_up_to_four(number: int, columns: int, rows: int) -> None:
    pictures = [plain(30, 60, 100 + i) for i in range(number)]
    sheet = contact_sheet(pictures, [[f"picture {i}"] for i in range(number)], cell_width=60, font_size=10)
    assert sheet.shape[1] == columns * 60 + (columns - 1) * 8
    assert (sheet.shape[0] + 8) % rows == 0
    cell = (sheet.shape[0] + 8) // rows
    for i in range(number):  # every picture is there, in reading order
        bottom, left = (i // columns + 1) * cell - 8, i % columns * 68
        assert (sheet[bottom - 30 : bottom, left : left + 60] == 100 + i).all()


def test_pictures_of_other_sizes_are_made_as_wide_as_a_cell() -> None:
    sheet = contact_sheet([plain(100, 200, 50), plain(10, 20, 200)], [["a"], ["b"]], cell_width=80, font_size=10)
    assert (sheet[-40:, :80] == 50).all()
    assert (sheet[-40:, 88:] == 200).all()
