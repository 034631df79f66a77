"""Image files that are missing, unreadable, of another size, turned, misnamed, or not named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.inspect.doctor import Split
from detector.inspect.doctor.file_checks import unusable_images
from detector.inspect.doctor.image_facts import read_image_facts
from detector.inspect.doctor.image_reading import look_for_files
from tests.inspect.doctor.made_sets import CLEAN, checked, document_of, read_split, write_image, write_set


def made(tmp_path: Path, suffix: str = "png") -> tuple[Path, Path]:
    images = {name.replace("png", suffix): boxes for name, boxes in CLEAN.items()}
    return write_set(tmp_path, document_of(images))


def save_turned(path: Path, orientation: int, size: tuple[int, int]) -> None:
    """Write a JPEG of a (height, width) with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(orientation).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def test_a_missing_image_is_an_error_that_names_what_is_there_instead(tmp_path: Path) -> None:
    annotations, images = made(tmp_path)
    (images / "b.png").rename(images / "B.JPG")
    (images / "c.png").unlink()
    found = checked(read_split(annotations, images))
    finding = found.pop("missing-images")
    assert (finding.severity, finding.count) == ("error", 2)
    assert finding.text == f"2 of 3 images missing in {images}"
    assert [e.text for e in finding.examples] == ["b.png (image id 2); there is B.JPG", "c.png (image id 3)"]
    assert list(found) == ["unnamed-images"]


def test_a_folder_without_any_of_the_images_is_described(tmp_path: Path) -> None:
    annotations, images = made(tmp_path)
    (images / "deep").mkdir()
    for name in CLEAN:
        (images / name).rename(images / "deep" / name)
    assert checked(read_split(annotations, images))["missing-images"].evidence == "the folder holds deep/"
    finding = checked(read_split(annotations, tmp_path / "nowhere"))["missing-images"]
    assert finding.evidence == "there is no such folder"
    assert finding.remedy == "give the folder that the file names are relative to"


def test_unreadable_images_are_errors_with_their_reasons(tmp_path: Path) -> None:
    annotations, images = made(tmp_path, "jpg")
    (images / "a.jpg").write_bytes(b"")
    whole = (images / "b.jpg").read_bytes()
    (images / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "c.jpg").write_bytes(b"no image at all")
    found = checked(read_split(annotations, images))
    finding = found.pop("unreadable-images")
    assert not found
    assert (finding.severity, finding.count) == ("error", 3)
    empty, short, other = (example.text for example in finding.examples)
    assert empty == "a.jpg (image id 1): the image file is empty (0 bytes)"
    assert short.startswith("b.jpg (image id 2): the image file is cut short: its ")
    assert other == "c.jpg (image id 3): cannot decode the image: it is no image of a known format"


def test_an_image_of_another_size_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    annotations, images = made(tmp_path)
    write_image(images / "a.png", (80, 60), "swapped")
    write_image(images / "b.png", (30, 40), "half")
    split = read_split(annotations, images)
    found = checked(split)
    finding = found.pop("other-image-size")
    assert not found
    assert (finding.severity, finding.count) == ("error", 2)
    assert finding.examples[1].text == ("b.png (image id 2): annotated 80 x 60, the file has 40 x 30 (width x height)")
    assert finding.evidence == "in 1 of them width and height are swapped"
    assert [path for path, _ in unusable_images(split)] == [str(images / "a.png"), str(images / "b.png")]


def test_what_decoding_does_with_an_exif_orientation_is_said(tmp_path: Path) -> None:
    annotations, images = made(tmp_path, "jpg")
    save_turned(images / "a.jpg", 6, (80, 60))  # annotated 60 x 80: as viewers show it
    save_turned(images / "b.jpg", 6, (60, 80))  # annotated as it is stored
    save_turned(images / "c.jpg", 3, (60, 80))  # upside down: the annotated size cannot say
    found = checked(read_split(annotations, images))
    note, warning = found.pop("exif-orientation"), found.pop("ambiguous-orientation")
    assert not found
    assert (note.severity, note.count) == ("note", 2)
    assert "1 are turned upright and 1 are used as they are stored" in note.text
    assert (warning.severity, warning.count) == ("warning", 1)
    assert warning.examples[0].text == "c.jpg (image id 3): orientation 3"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_and_shown_sizes_are_told_apart(tmp_path: Path, orientation: int) -> None:
    save_turned(tmp_path / "a.jpg", orientation, (50, 70))
    facts = read_image_facts(tmp_path / "a.jpg")
    assert (facts.stored_size, facts.orientation, facts.format) == ((50, 70), orientation, "JPEG")
    assert facts.shown_size == ((70, 50) if orientation >= 5 else (50, 70))


def test_content_of_another_format_than_the_name_says_is_a_note(tmp_path: Path) -> None:
    annotations, images = made(tmp_path, "jpg")
    Image.open(images / "b.jpg").save(images / "b.jpg", format="PNG")
    found = checked(read_split(annotations, images))
    finding = found.pop("wrong-suffix")
    assert not found
    assert finding.severity == "note"
    assert finding.examples[0].text == "b.jpg (image id 2): the content is PNG"


def test_images_that_nothing_names_are_a_note_unless_another_split_does(tmp_path: Path) -> None:
    annotations, images = made(tmp_path)
    write_image(images / "extra.png", (60, 80), "extra")
    (images / "notes.txt").write_text("no image")
    train = read_split(annotations, images)
    found = checked(train)
    finding = found.pop("unnamed-images")
    assert not found
    assert (finding.severity, finding.count, finding.where) == ("note", 1, "train")
    assert [example.text for example in finding.examples] == ["extra.png"]
    other, _ = write_set(tmp_path / "other", document_of({"extra.png": CLEAN["a.png"]}), "val")
    assert "unnamed-images" not in checked(train, read_split(other, images, "val", is_scored=True))


def test_sizes_that_are_not_annotated_are_taken_from_the_files(tmp_path: Path) -> None:
    document = document_of({"a.png": [("cat", 70, 10, 30, 20), ("dog", 5, 5, 20, 20)]})
    annotations, images = write_set(tmp_path, document)
    text = annotations.read_text()
    annotations.write_text(
        text.replace('"width": 80, ', "").replace('"height": 60', '"height": null').replace(', "width": 80', "")
    )
    split = read_split(annotations, images)
    assert split.filled == (0,)
    assert split.content.sizes.tolist() == [[60, 80]]
    assert checked(split)["leaving-boxes"].examples[0].text.endswith("the image is 80 x 60")


@pytest.mark.parametrize("folder", ["", "x/y/"])
def test_looking_for_files_without_reading_finds_the_missing_ones(tmp_path: Path, folder: str) -> None:
    images = {f"{folder}{name}": boxes for name, boxes in CLEAN.items()}
    (tmp_path / "train" / folder).mkdir(parents=True)
    annotations, root = write_set(tmp_path, document_of(images))
    (root / f"{folder}c.png").unlink()
    (root / f"{folder}a.png").write_bytes(b"")  # unreadable, which nobody sees here
    content = read_split(annotations, root).content
    found = checked(Split("train", content).with_facts(look_for_files(content)))
    assert list(found) == ["missing-images"]
    assert found["missing-images"].examples[0].text == f"{folder}c.png (image id 3)"
