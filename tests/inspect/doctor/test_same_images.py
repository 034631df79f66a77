"""Images that are in both splits, or twice in one, are found by their bytes, or by their paths if nobody reads them."""

from dataclasses import replace
from pathlib import Path
from shutil import copy

from tests.inspect.doctor.made_sets import CLEAN, checked, document_of, make_split, read_split, write_set


def test_an_image_of_both_splits_is_a_warning_whatever_its_name(tmp_path: Path) -> None:
    train = write_set(tmp_path, document_of(CLEAN))
    val = write_set(tmp_path, document_of(CLEAN), "val")
    copy(train[1] / "b.png", val[1] / "c.png")
    found = checked(read_split(*train), read_split(*val, "val", is_scored=True))
    finding = found.pop("images-in-both-splits")
    assert not found
    assert (finding.severity, finding.where, finding.count) == ("warning", "train and val", 1)
    assert finding.examples[0].text == "c.png (image id 3) of val is b.png (image id 2) of train"
    assert finding.evidence == "by a hash of the files' bytes"


def test_a_file_with_the_bytes_of_another_one_is_a_warning(tmp_path: Path) -> None:
    annotations, images = write_set(tmp_path, document_of(CLEAN))
    copy(images / "a.png", images / "c.png")
    found = checked(read_split(annotations, images))
    finding = found.pop("duplicate-images")
    assert not found
    assert finding.severity == "warning"
    assert finding.examples[0].text == "c.png (image id 3): the same as a.png (image id 1)"


def test_without_reading_the_same_path_is_the_same_image() -> None:
    train, val = make_split(CLEAN), make_split(CLEAN, "val")
    finding = checked(train, val)["images-in-both-splits"]
    assert finding.count == 3
    assert finding.evidence == "by their paths; the files were not read"
    elsewhere = replace(val, content=replace(val.content, images_dir=Path("elsewhere")))
    assert not checked(train, elsewhere)


def test_missing_files_are_not_the_same_image(tmp_path: Path) -> None:
    annotations, images = write_set(tmp_path, document_of(CLEAN))
    for name in ("a.png", "b.png"):
        (images / name).unlink()
    assert list(checked(read_split(annotations, images))) == ["missing-images"]
