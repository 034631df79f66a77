"""Missing and unreadable images are found before a run starts."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.errors import UserError
from detector.inspect.startup import check_decodable, check_files_present


def dataset_of(tmp_path: Path, names: list[str]) -> DetectionDataset:
    images = tmp_path / "images"
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(images / name)
    content = {
        "images": [{"id": i, "file_name": name, "width": 8, "height": 6} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return open_coco_dataset(tmp_path / "boxes.json", images)


def test_files_are_found_in_all_folders(tmp_path: Path) -> None:
    found = check_files_present(dataset_of(tmp_path, ["a.png", "x/b.png", "x/y/c.png", "x/d.png"]))
    assert (found.num_images, found.num_folders) == (4, 3)
    assert str(found) == "all 4 image files are there in 3 folders"


def test_missing_files_are_counted_and_the_first_named(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [f"{i}.png" for i in range(9)] + ["x/b.png"])
    for name in ("1.png", "x/b.png"):
        (tmp_path / "images" / name).unlink()
    (tmp_path / "images/x").rmdir()
    message = (
        r"images: 2 of the 10 images that .*boxes.json names are missing: 1.png, x/b.png\nthe folder holds, for ex"
    )
    with pytest.raises(UserError, match=message):
        check_files_present(dataset)


def test_so_many_as_training_may_skip_may_be_missing_but_not_all(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ["a.png", "b.png", "c.png"])
    for name in ("c.png", "a.png"):
        (tmp_path / "images" / name).unlink()
    found = check_files_present(dataset, max_missing=2)
    assert str(found) == "2 of 3 image files are missing: a.png, c.png"
    with pytest.raises(UserError, match="2 of the 3"):
        check_files_present(dataset, max_missing=1)
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(UserError, match="images: the image folder is empty"):
        check_files_present(dataset, max_missing=5)


def test_a_long_list_of_missing_files_is_cut_and_the_folders_content_shown(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [f"{i}.png" for i in range(9)])
    (tmp_path / "train").mkdir()
    (tmp_path / "images").rename(tmp_path / "train/images")
    (tmp_path / "train").rename(tmp_path / "images")
    with pytest.raises(
        UserError, match=r"9 of the 9 .* 0.png, 1.png, 2.png, 3.png, 4.png, ...\n.*for example: images/"
    ):
        check_files_present(dataset)


def test_a_folder_is_not_taken_for_an_image(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ["a.png", "b.png"])
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/a.png").mkdir()
    with pytest.raises(UserError, match=r"1 of the 2 .* missing: a.png"):
        check_files_present(dataset)


def test_a_missing_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ["a.png"])
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(UserError, match=r"images: the image folder is empty; expected the 1 images of .*boxes.json"):
        check_files_present(dataset)
    (tmp_path / "images").rmdir()
    with pytest.raises(UserError, match=r"images: the image folder does not exist"):
        check_files_present(dataset)


def test_a_small_dataset_is_decoded_as_a_whole(tmp_path: Path) -> None:
    checked = check_decodable(dataset_of(tmp_path, [f"{i}.png" for i in range(5)]), seed=0)
    assert (checked.num_checked, checked.problems) == (5, ())
    assert str(checked) == "5 of them decoded"


def test_unreadable_images_are_listed_with_their_ids(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [f"{i}.png" for i in range(12)])
    for i in range(7):
        (tmp_path / f"images/{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"images: 7 of 12 sampled images cannot be read") as caught:
        check_decodable(dataset, seed=0)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  image id 0: ")
    assert lines[1].endswith("0.png: the image file is empty (0 bytes)")
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 7


def test_unreadable_images_that_training_skips_are_returned(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ["a.png", "b.png"])
    (tmp_path / "images/b.png").write_bytes(b"")
    checked = check_decodable(dataset, seed=0, skip_unreadable=True)
    assert len(checked.problems) == 1
    assert str(checked).startswith("1 of 2 cannot be read:\n  image id 1: ")


def test_the_sample_depends_on_the_seed_alone(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [f"{i}.png" for i in range(40)])
    for i in range(0, 40, 2):
        (tmp_path / f"images/{i}.png").write_bytes(b"")
    samples = [check_decodable(dataset, seed, num_images=10, skip_unreadable=True).problems for seed in (1, 1, 2)]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    assert 0 < len(samples[0]) < 10
