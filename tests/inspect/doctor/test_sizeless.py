"""Datasets whose boxes need the images' sizes: unreadable images are named, and orientations are no question."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.cli.check_dataset import main
from detector.data.dataset import open_dataset
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.inspect.doctor import Example, Split
from detector.inspect.doctor.example_pictures import draw_example
from detector.inspect.doctor.image_reading import ImageReader, look_for_files
from tests.data.formats.files import write
from tests.data.photos import save_photo, shown, write_coco
from tests.data.photos import write_yolo as write_yolo_photo
from tests.inspect.doctor.made_sets import checked, write_image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_yolo(folder: Path) -> Path:
    """Write five images with a box each, of which one is empty, one is no image, and one is missing."""
    for name in "abcde":
        path = folder / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, (60, 80), name)
        write(folder / f"labels/{name}.txt", "0 0.5 0.5 0.3 0.4\n")
    write(folder / "images/b.png", "")
    write(folder / "images/c.png", "no image")
    (folder / "images/d.png").unlink()
    write(folder / "train.txt", "".join(f"images/{name}.png\n" for name in "abcde"))
    write(folder / "data.yaml", "train: train.txt\nnames: [cat]\n")
    return folder


def test_unreadable_images_of_a_yolo_set_are_named_and_nothing_is_said_of_their_boxes(tmp_path: Path) -> None:
    split = Split("train", read_dataset(DatasetSource(write_yolo(tmp_path))))
    found = checked(split.with_facts(ImageReader().read(split.content)))
    unreadable, missing = found.pop("unreadable-images"), found.pop("missing-images")
    assert not found
    assert [example.text for example in unreadable.examples] == [
        "images/b.png: the image file is empty (0 bytes)",
        "images/c.png: cannot decode the image: it is no image of a known format",
    ]
    assert unreadable.remedy == "fetch them anew; --fix leaves them out"  # on_unreadable=skip comes too late
    assert [example.text for example in missing.examples] == ["images/d.png"]


def test_without_decoding_they_are_named_too(tmp_path: Path) -> None:
    split = Split("train", read_dataset(DatasetSource(write_yolo(tmp_path))))
    found = checked(split.with_facts(look_for_files(split.content)))
    assert found.keys() == {"unreadable-images", "missing-images"}
    texts = [example.text for example in found["unreadable-images"].examples]
    assert texts == [f"images/{name}.png: its size cannot be read, so its boxes are lost" for name in "bc"]


def test_fix_leaves_unreadable_images_of_a_yolo_set_out_and_quarantine_lists_them(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "set")
    fixed, listed = tmp_path / "fixed.json", tmp_path / "bad.txt"
    assert main(["--data", str(folder), "--fix", str(fixed), "--quarantine", str(listed)]) == 2
    document = json.loads(fixed.read_text())
    assert [image["file_name"] for image in document["images"]] == ["images/a.png", "images/e.png"]
    assert [box["bbox"] for box in document["annotations"]] == [pytest.approx([28, 18, 24, 24])] * 2
    assert [line.split("\t") for line in listed.read_text().splitlines()] == [
        [f"{folder}/images/b.png", "the image file is empty (0 bytes)"],
        [f"{folder}/images/c.png", "cannot decode the image: it is no image of a known format"],
        [f"{folder}/images/d.png", "missing"],
    ]
    assert main(["--data", str(fixed), "--images", str(folder)]) == 0


@pytest.mark.parametrize("writer", [write_yolo_photo, write_coco])
def test_without_annotated_sizes_an_orientation_is_no_question(
    tmp_path: Path, writer: Callable[[Path, Path], DatasetSource]
) -> None:
    path = save_photo(tmp_path / "images/a.jpg", 3)
    split = Split("train", read_dataset(writer(tmp_path, path)))
    split = split.with_facts(ImageReader().read(split.content))
    found = checked(split)
    assert "ambiguous-orientation" not in found
    assert "1 are turned upright and 0 are used as they are stored" in found["exif-orientation"].text
    data = draw_example(split, Example("", "train", 0))
    assert data is not None
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    middle = slice(picture.shape[0] // 4, picture.shape[0] // 2 - 10)
    assert picture[middle, picture.shape[1] // 4].max() < 100  # the white quarter is stored there, and shown opposite


@pytest.mark.parametrize("writer", [write_yolo_photo, write_coco])
def test_fix_leaves_images_turned_as_they_are_shown(
    tmp_path: Path, writer: Callable[[Path, Path], DatasetSource]
) -> None:
    path = save_photo(tmp_path / "images/a.jpg", 3)
    source = writer(tmp_path, path)
    fixed = tmp_path / "fixed/fixed.json"
    fixed.parent.mkdir()
    images = [] if source.images is None else ["--images", str(source.images)]
    main(["--data", str(source.path), *images, "--fix", str(fixed)])
    dataset, _ = open_dataset(read_dataset(DatasetSource(fixed, tmp_path / "images")))
    np.testing.assert_allclose(dataset[0].image.astype(int), shown(path), atol=4)
