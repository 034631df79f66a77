"""Facts of image files are kept in the user's cache folder, and hold only for the file that they were read from."""

import json
import os
import stat
from pathlib import Path

import pytest

from detector.data.formats.coco import read_coco_json
from detector.inspect.doctor import image_cache, image_reading
from detector.inspect.doctor.image_cache import cache_file, cache_folder
from detector.inspect.doctor.image_facts import ImageFacts, read_image_facts
from detector.inspect.doctor.image_reading import ImageReader
from tests.inspect.doctor.made_sets import CLEAN, document_of, write_image, write_set


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded, in order."""
    names: list[str] = []

    def read(path: Path) -> ImageFacts:
        names.append(path.name)
        return read_image_facts(path)

    monkeypatch.setattr(image_reading, "read_image_facts", read)
    return names


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_set(tmp_path, document_of(CLEAN))
    return tmp_path / "train"


def read(images: Path) -> list[ImageFacts]:
    return ImageReader().read(read_coco_json(images.with_suffix(".json"), images))


def test_a_second_check_decodes_nothing_and_knows_the_same(images: Path, decoded: list[str]) -> None:
    first = read(images)
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]
    decoded.clear()
    assert read(images) == first
    assert not decoded
    assert first[0].stored_size == (60, 80)
    assert first[0].format == "PNG"
    assert len({facts.digest for facts in first}) == 3


def test_only_files_that_changed_are_decoded_again(images: Path, decoded: list[str]) -> None:
    first = read(images)
    decoded.clear()
    write_image(images / "b.png", (60, 80), "another picture")
    same_bytes = images / "c.png"
    os.utime(same_bytes, ns=(1, 1))
    second = read(images)
    assert sorted(decoded) == ["b.png", "c.png"]
    assert [a.digest == b.digest for a, b in zip(first, second, strict=True)] == [True, False, True]


def test_unreadable_files_are_known_too_and_missing_ones_are_looked_for_again(images: Path, decoded: list[str]) -> None:
    (images / "a.png").write_bytes(b"")
    (images / "b.png").unlink()
    assert [facts.is_usable for facts in read(images)] == [False, False, True]
    decoded.clear()
    facts = read(images)
    assert facts[0].problem == "the image file is empty (0 bytes)"
    assert facts[1].is_missing
    assert not decoded


def test_the_cache_lies_in_the_users_folder_for_this_user_alone(images: Path, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    read(images)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    path = cache_file(images)
    assert path.is_relative_to(cache_folder())
    assert cache_folder() == Path(os.environ["XDG_CACHE_HOME"]) / "retina-detector"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"[]", b'{"versions": 1}', b'{"images": {}}', b"\xff\xfe", b"[" * 100_000],
)
def test_a_broken_cache_is_ignored_and_replaced(images: Path, decoded: list[str], content: bytes) -> None:
    first = read(images)
    cache_file(images).write_bytes(content)
    decoded.clear()
    assert read(images) == first
    assert len(decoded) == 3
    decoded.clear()
    read(images)
    assert not decoded


@pytest.mark.parametrize(
    "entry", [[], [1, 2, 3], ["x"] * 7, [1, 2, "", [1], 1, "", ""], None, [1, 2, 3, None, 1, "", ""]]
)
def test_a_broken_entry_makes_the_cache_worthless(images: Path, decoded: list[str], entry: object) -> None:
    read(images)
    document = json.loads(cache_file(images).read_text())
    document["images"]["a.png"] = entry
    cache_file(images).write_text(json.dumps(document))
    decoded.clear()
    read(images)
    assert len(decoded) == 3


def test_another_version_of_the_doctor_looks_again(
    images: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(images)
    decoded.clear()
    monkeypatch.setattr(image_cache, "DOCTOR_VERSION", image_cache.DOCTOR_VERSION + 1)
    read(images)
    assert len(decoded) == 3


def test_a_cache_folder_that_cannot_be_made_is_no_error(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert all(facts.is_usable for facts in read(images))


def test_a_relative_cache_home_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_folder() == Path.home() / ".cache" / "retina-detector"


def test_what_was_decoded_before_an_interruption_is_kept(
    images: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path) -> ImageFacts:
        if path.name == "c.png":
            raise KeyboardInterrupt
        return read_image_facts(path)

    with monkeypatch.context() as patch:
        patch.setattr(image_reading, "read_image_facts", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(images)
    read(images)
    assert decoded == ["c.png"]


def test_a_reader_counts_each_image_once(images: Path) -> None:
    content = read_coco_json(images.with_suffix(".json"), images)
    first = ImageReader()
    first.read(content)
    first.read(content)
    assert (first.num_decoded, first.num_cached) == (3, 0)
    second = ImageReader()
    second.read(content)
    second.read(content)
    assert (second.num_decoded, second.num_cached) == (0, 3)
