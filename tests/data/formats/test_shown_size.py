"""Conversions neither lose nor invent a turn of an image under its boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy.testing as npt
import pytest

from detector.data.dataset import open_dataset
from detector.data.formats.content import FormatName
from detector.data.formats.conversion import convert
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.errors import UserError
from tests.data.photos import save_photo, shown, write_coco, write_csv, write_yolo


@pytest.mark.parametrize("target", ["coco", "voc"])
@pytest.mark.parametrize("writer", [write_yolo, write_csv, write_coco])
@pytest.mark.parametrize(("orientation", "size"), [(3, (64, 96)), (6, (64, 64))])
def test_a_size_that_would_stop_the_turning_of_an_image_is_not_written(
    tmp_path: Path,
    writer: Callable[[Path, Path], DatasetSource],
    target: FormatName,
    orientation: int,
    size: tuple[int, int],
) -> None:
    source = writer(tmp_path, save_photo(tmp_path / "images/a.jpg", orientation, size))
    message = rf"a\.jpg: the image has the EXIF orientation {orientation}, .* it would not be turned \(1 such images\)"
    with pytest.raises(UserError, match=message):
        convert(source, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("orientation", "writer", "target"),
    [
        (6, write_yolo, "coco"),
        (6, write_csv, "voc"),
        (3, write_yolo, "csv"),
        (3, write_coco, "yolo"),
        (1, write_yolo, "voc"),
    ],
)
def test_other_turns_are_kept(
    tmp_path: Path, orientation: int, writer: Callable[[Path, Path], DatasetSource], target: FormatName
) -> None:
    path = save_photo(tmp_path / "images/a.jpg", orientation)
    convert(writer(tmp_path, path), target, tmp_path / "out")
    dataset, _ = open_dataset(read_dataset(DatasetSource(tmp_path / "out", split="train")))
    sample = dataset[0]
    npt.assert_allclose(sample.image.astype(int), shown(path), atol=4)
    x1, y1, x2, y2 = sample.boxes[0].round().astype(int).tolist()
    assert sample.image[y1:y2, x1:x2].min() > 200
