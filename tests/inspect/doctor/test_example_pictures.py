"""Pictures of examples show the boxes that are meant: enlarged if small, with room around if they leave the image."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from detector.drawing.colors import class_color
from detector.inspect.doctor import Example, Split
from detector.inspect.doctor.example_pictures import HEIGHT, WIDTH, draw_example
from tests.inspect.doctor.made_sets import document_of, read_split, write_set

BOXES = {
    "a.png": [("cat", 100, 75, 200, 150), ("dog", 20, 20, 4, 3), ("dog", 350, 100, 100, 100), ("cat", 60, 200, 0, 0)],
    "b.png": [],
}


@pytest.fixture
def split(tmp_path: Path) -> Split:
    annotations, images = write_set(tmp_path, document_of(BOXES, size=(300, 400)))
    for name in BOXES:
        Image.new("RGB", (400, 300), (120, 120, 120)).save(images / name)
    return read_split(annotations, images)


def picture(split: Split, *boxes: int, image: int = 0) -> npt.NDArray[np.int64]:
    data = draw_example(split, Example("text", "train", image, boxes))
    assert data is not None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded[..., ::-1], dtype=np.int64)


def is_like(pixels: npt.NDArray[np.int64], color: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(pixels - color).max(axis=-1) < 60)


def test_a_box_is_drawn_where_it_is_in_the_colour_of_its_class(split: Split) -> None:
    pixels = picture(split, 0)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    drawn = is_like(pixels, class_color(0))
    assert drawn[150, 98:103].any()
    assert drawn[150, 298:303].any()
    assert not drawn[150, 150:250].any()


def test_a_small_box_is_enlarged(split: Split) -> None:
    pixels = picture(split, 1)
    rows, columns = np.nonzero(is_like(pixels, class_color(1)))
    # 4 x 3 pixels at a scale of at least 4, as a quarter of the image is shown.
    assert columns.max() - columns.min() >= 12
    assert abs((rows.min() + rows.max()) / 2 - HEIGHT / 2) < 30


def test_a_box_beyond_the_border_gets_room(split: Split) -> None:
    pixels = picture(split, 2)
    assert is_like(pixels[:20, -20:], (205, 205, 205)).all()
    assert is_like(pixels[:20, :20], (120, 120, 120)).all()
    assert is_like(pixels, class_color(1))[:, -12:].any()


@pytest.mark.parametrize("far", [420.0, 700.0])
def test_a_box_outside_of_its_image_is_shown_with_the_image(split: Split, far: float) -> None:
    split.content.boxes[1] = [far, 100, 30, 30]
    pixels = picture(split, 1)
    assert is_like(pixels, class_color(1)).any()
    assert is_like(pixels[:, :50], (120, 120, 120)).mean() > 0.3


def test_a_box_out_of_sight_leaves_the_image_alone(split: Split) -> None:
    split.content.boxes[1] = [9000, 9000, 30, 30]
    assert is_like(picture(split, 1), (120, 120, 120)).mean() > 0.1


def test_a_box_without_area_is_marked(split: Split) -> None:
    assert is_like(picture(split, 3), class_color(0)).any()


def test_an_image_is_shown_with_all_its_boxes(split: Split) -> None:
    drawn = picture(split)
    assert is_like(drawn, class_color(0)).any()
    assert is_like(drawn, class_color(1)).any()
    assert is_like(picture(split, image=1), (120, 120, 120)).all()


def test_there_is_no_picture_of_what_cannot_be_decoded(split: Split) -> None:
    (split.content.images_dir / "a.png").write_bytes(b"")
    assert draw_example(split, Example("text", "train", 0)) is None
    assert draw_example(split, Example("text", "train")) is None


def test_an_image_of_another_size_is_shown_all_the_same(split: Split) -> None:
    Image.new("RGB", (40, 30), (120, 120, 120)).save(split.content.images_dir / "b.png")
    assert picture(split, image=1).shape == (300, 400, 3)


@pytest.mark.parametrize("box", [[np.nan] * 4, [1e12, 5, 10, 10], [5, 5, 1e300, 1e300], [300, 200, -200, -100]])
def test_any_numbers_can_be_drawn(split: Split, box: list[float]) -> None:
    split.content.boxes[0] = box
    assert picture(split, 0).shape[2] == 3
