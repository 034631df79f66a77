"""Photos with an EXIF orientation lie under their boxes as whoever drew them saw the photos."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from detector.data.dataset import DetectionDataset, open_dataset
from detector.data.decode import ImageError
from detector.data.formats.reading import DatasetSource, read_dataset
from tests.data.photos import STORED, save_photo, shown, write_coco, write_csv, write_yolo


def open_source(source: DatasetSource) -> DetectionDataset:
    return open_dataset(read_dataset(source))[0]


@pytest.mark.parametrize("size", [STORED, (64, 64)])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("writer", [write_yolo, write_coco, write_csv])
def test_without_annotated_sizes_an_image_is_turned_as_viewers_show_it(
    tmp_path: Path, writer: Any, orientation: int, size: tuple[int, int]
) -> None:
    path = save_photo(tmp_path / "images/a.jpg", orientation, size)
    sample = open_source(writer(tmp_path, path))[0]
    npt.assert_array_equal(sample.image.shape, shown(path).shape)
    npt.assert_allclose(sample.image.astype(int), shown(path), atol=4)  # two decoders of JPEG
    x1, y1, x2, y2 = sample.boxes[0].round().astype(int).tolist()
    assert sample.image[y1:y2, x1:x2].min() > 200
    assert sample.original_size == shown(path).shape[:2]


@pytest.mark.parametrize(("orientation", "is_turned"), [(3, False), (6, True)])
def test_annotated_sizes_decide_as_before(tmp_path: Path, orientation: int, is_turned: bool) -> None:
    path = save_photo(tmp_path / "images/a.jpg", orientation)
    height, width = shown(path).shape[:2]
    sample = open_source(write_coco(tmp_path, path, width=width, height=height))[0]
    with Image.open(path) as image:
        expected = shown(path) if is_turned else np.asarray(image)
    npt.assert_allclose(sample.image.astype(int), expected, atol=4)


def test_a_part_of_a_dataset_keeps_which_sizes_are_annotated(tmp_path: Path) -> None:
    source = write_yolo(tmp_path, save_photo(tmp_path / "images/b.jpg", 3))
    save_photo(tmp_path / "images/a.jpg", 3)
    content = read_dataset(source)
    assert content.is_measured.tolist() == [False, True]  # only images with boxes need a size
    assert content.select_images(np.array([1])).is_measured.tolist() == [True]
    dataset, completed = open_dataset(content)
    assert completed.is_measured.tolist() == [True, True]
    npt.assert_allclose(dataset[0].image.astype(int), shown(tmp_path / "images/a.jpg"), atol=4)


def test_a_file_that_changed_after_its_size_was_read_is_named(tmp_path: Path) -> None:
    path = save_photo(tmp_path / "images/a.jpg", 3)
    dataset = open_source(write_yolo(tmp_path, path))
    save_photo(path, 6)
    with pytest.raises(ImageError, match=r"a\.jpg: the image has 96 x 64 pixels, but had 64 x 96 when .* has changed"):
        dataset[0]
