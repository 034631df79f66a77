"""Photos with an EXIF orientation lie under their boxes as whoever drew them saw the photos."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image, ImageOps

from detector.data.dataset import DetectionDataset, open_dataset
from detector.data.decode import ImageError
from detector.data.formats.reading import DatasetSource, read_dataset
from tests.data.formats.files import write

STORED = (64, 96)
"""(height, width) in the file."""


def save_photo(path: Path, orientation: int, size: tuple[int, int] = STORED) -> Path:
    """Write a grey JPEG whose first stored quarter, at the top left, is white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 60, np.uint8)
    pixels[: size[0] // 2, : size[1] // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


def shown(path: Path) -> np.ndarray:
    """Return the pixels as viewers show them, by Pillow."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def white_part(path: Path) -> tuple[int, int, int, int]:
    """Return where viewers show the white quarter, as (x1, y1, x2, y2)."""
    rows, columns = np.nonzero(shown(path)[..., 0] > 200)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def write_yolo(folder: Path, path: Path) -> DatasetSource:
    height, width = shown(path).shape[:2]
    x1, y1, x2, y2 = white_part(path)
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    write(folder / "labels" / f"{path.stem}.txt", f"0 {' '.join(map(str, numbers))}\n")
    write(folder / "data.yaml", "train: images\nnames: [white]\n")
    return DatasetSource(folder)


def write_csv(folder: Path, path: Path) -> DatasetSource:
    write(folder / "boxes.csv", f"images/{path.name},{','.join(map(str, white_part(path)))},white\n")
    return DatasetSource(folder / "boxes.csv", folder)


def write_coco(folder: Path, path: Path, **size: int) -> DatasetSource:
    x1, y1, x2, y2 = white_part(path)
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": path.name, **size}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}],
        "categories": [{"id": 1, "name": "white"}],
    }
    write(folder / "a.json", json.dumps(document))
    return DatasetSource(folder / "a.json", folder / "images")


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
