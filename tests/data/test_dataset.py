"""The dataset gives samples, in this process and in loader processes of every kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.data.decode import ImageError
from detector.errors import UserError
from detector.structures import Sample


def small_dataset(tmp_path: Path, orientation: int = 1) -> DetectionDataset:
    """Three images, of which the first has two boxes, one a crowd, and the last lies in a folder and has none."""
    sizes = {5: (20, 30), 6: (24, 24), 9: (30, 20)}
    names = {5: "a.png", 6: "b.png", 9: "sub/c.png"}
    (tmp_path / "images/sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for image_id, (height, width) in sizes.items():
        Image.new("RGB", (width, height), (image_id, 20, 30)).save(tmp_path / "images" / names[image_id], exif=exif)
    content = {
        "images": [{"id": i, "file_name": names[i], "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": 3, "name": "cup"}, {"id": 90, "name": "pen"}],
        "annotations": [
            {"image_id": 6, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"image_id": 5, "category_id": 90, "bbox": [10, 0, 8, 9]},
            {"image_id": 5, "category_id": 3, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return open_coco_dataset(tmp_path / "boxes.json", tmp_path / "images")


def assert_samples_equal(actual: Sample, expected: Sample) -> None:
    for name in ("image", "boxes", "labels", "ignore"):
        npt.assert_array_equal(getattr(actual, name), getattr(expected, name), strict=True)
    assert actual.image_id == expected.image_id
    assert actual.original_size == expected.original_size


def first(items: list[Any]) -> Any:
    return items[0]


def test_a_sample_holds_image_boxes_labels_and_ignore_flags(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample.image_id == 5
    assert sample.original_size == (20, 30)
    assert sample.image.shape == (20, 30, 3)
    assert sample.image[0, 0].tolist() == [5, 20, 30]
    npt.assert_array_equal(sample.boxes, np.array([[10, 0, 18, 9], [0, 0, 30, 20]], np.float32), strict=True)
    npt.assert_array_equal(sample.labels, np.array([1, 0]), strict=True)
    npt.assert_array_equal(sample.ignore, np.array([False, True]), strict=True)


def test_an_image_without_boxes_gives_empty_arrays(tmp_path: Path) -> None:
    sample = small_dataset(tmp_path)[2]
    assert sample.boxes.shape == (0, 4)
    assert sample.boxes.dtype == np.float32
    assert sample.labels.shape == sample.ignore.shape == (0,)
    assert sample.original_size == (30, 20)


def test_the_dataset_tells_sizes_categories_and_paths(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    assert dataset.sizes.tolist() == [[20, 30], [24, 24], [30, 20]]
    assert dataset.categories.ids == (3, 90)
    assert dataset.image_path(2) == tmp_path / "images/sub/c.png"


def test_changing_a_sample_leaves_the_dataset_alone(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    sample = dataset[0]
    sample.boxes[:] = -1
    sample.labels[:] = -1
    sample.ignore[:] = True
    npt.assert_array_equal(dataset[0].boxes[0], [10, 0, 18, 9])
    npt.assert_array_equal(dataset[0].labels, [1, 0])
    assert not dataset[0].ignore[0]


def test_an_index_outside_the_dataset_ends_iteration(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    assert len(list(iter(dataset))) == 3  # type: ignore[call-overload]
    with pytest.raises(IndexError, match="image -1 of 3"):
        dataset[-1]


def test_an_unreadable_image_is_named_with_its_id(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    (tmp_path / "images/b.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"image id 6: .*b.png: the image file is empty"):
        dataset[1]


def test_an_image_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path)
    Image.new("RGB", (31, 20)).save(tmp_path / "images/a.png")
    with pytest.raises(
        ImageError, match=r"image id 5: .*a.png: .* 20 x 31 pixels, but the annotation file says 20 x 30"
    ):
        dataset[0]


@pytest.mark.parametrize("start_method", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_loader_processes_read_the_same_samples(tmp_path: Path, start_method: str) -> None:
    dataset = small_dataset(tmp_path)
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=1,
        collate_fn=first,
        num_workers=2,
        multiprocessing_context=start_method,
    )
    samples = list(loader)
    assert len(samples) == 3
    for index, sample in enumerate(samples):
        assert_samples_equal(sample, dataset[index])


def test_a_missing_image_folder_is_named(tmp_path: Path) -> None:
    small_dataset(tmp_path)
    with pytest.raises(
        UserError, match=r"photos: the image folder does not exist; expected the folder with the images"
    ):
        open_coco_dataset(tmp_path / "boxes.json", tmp_path / "photos")
    with pytest.raises(UserError, match=r"boxes.json: the image folder is a file"):
        open_coco_dataset(tmp_path / "boxes.json", tmp_path / "boxes.json")


def test_sizes_that_the_file_lacks_come_from_the_images_upright(tmp_path: Path) -> None:
    small_dataset(tmp_path, orientation=6)
    path = tmp_path / "boxes.json"
    content = json.loads(path.read_text())
    del content["images"][0]["width"]
    path.write_text(json.dumps(content))
    dataset = open_coco_dataset(path, tmp_path / "images")
    assert dataset.sizes.tolist() == [[30, 20], [24, 24], [30, 20]]
    assert dataset[0].image.shape == (30, 20, 3)


def test_an_unreadable_image_whose_size_is_needed_is_named(tmp_path: Path) -> None:
    small_dataset(tmp_path)
    path = tmp_path / "boxes.json"
    content = json.loads(path.read_text())
    del content["images"][1]["width"]
    path.write_text(json.dumps(content))
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(UserError, match=r"b.png: cannot read the size of the image: No such file"):
        open_coco_dataset(path, tmp_path / "images")
