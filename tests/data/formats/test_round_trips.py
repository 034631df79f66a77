"""Whatever a dataset holds survives being written and read, in every format and from each to each."""

import io
import string
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data.formats.columns import FoundBox, FoundImage, assemble
from detector.data.formats.content import DatasetContent, FormatName
from detector.data.formats.conversion import convert
from detector.data.formats.image_files import stem
from detector.data.formats.reading import DatasetSource, read_dataset
from detector.data.formats.writing import write_dataset
from detector.structures import Categories
from tests.data.formats.files import write

FORMATS: tuple[FormatName, ...] = ("coco", "voc", "yolo", "csv")
SIZES = ((10, 20), (33, 17), (480, 640))

# Any character but control characters, half surrogates and the two that XML has no way to write.
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
CLASS_NAMES = st.text(st.one_of(CHARACTERS, st.sampled_from("\n\r\t ,;:\"'&<>[]{}#%~|\\/-0")), min_size=1, max_size=9)
FILE_CHARACTERS = CHARACTERS.filter(lambda character: character != "/")
FILE_STEMS = st.text(st.one_of(FILE_CHARACTERS, st.sampled_from(" ,;'\"&<>#.%~=")), min_size=1, max_size=9)
FOLDERS = st.lists(st.sampled_from(["a", "b c", "é", "images", "labels", "train"]), max_size=2)


@lru_cache
def image_bytes(height: int, width: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@st.composite
def sides(draw: st.DrawFn) -> float:
    """Return a width or height that is longer than a pixel, which VOC counts in, or none at all."""
    return draw(st.one_of(st.integers(-5, 0), st.integers(2, 60), st.floats(1.001, 60), st.floats(-5, 0)))


@st.composite
def contents(draw: st.DrawFn) -> DatasetContent:
    """Return a dataset with one object or more."""
    is_fine = CLASS_NAMES.filter(lambda name: name == name.strip() and name != "")
    names = tuple(draw(st.lists(is_fine, min_size=1, max_size=4, unique=True)))
    is_plain = FILE_STEMS.filter(lambda name: name == name.strip() and name[0] not in ".\\")
    paths = st.tuples(FOLDERS, is_plain).map(lambda parts: "/".join([*parts[0], parts[1]]))
    stems = draw(st.lists(paths.filter(lambda path: len(path.encode()) < 100), min_size=1, max_size=4, unique=True))
    suffixes = st.sampled_from([".jpg", ".JPEG", ".png", ".bmp", ".tif", ".webp"])
    images = [FoundImage(f"{path}{draw(suffixes)}", draw(st.sampled_from(SIZES)), "") for path in stems]
    position = st.one_of(st.integers(-30, 60), st.floats(-30, 60))
    box = st.builds(
        FoundBox,
        image=st.integers(0, len(images) - 1),
        box=st.tuples(position, position, sides(), sides()),
        label=st.integers(0, len(names) - 1),
        number=st.just(0),
        is_ignored=st.booleans(),
    )
    boxes = [draw(box)._replace(is_ignored=False), *draw(st.lists(box, max_size=6))]
    categories = Categories(tuple(range(1, len(names) + 1)), names)
    return assemble("coco", Path("made"), Path("images"), images, boxes, categories)


def put_images(content: DatasetContent, folder: Path) -> DatasetContent:
    """Write the images of a dataset; the names are those of files, whatever is in them."""
    for name, size in zip(content.file_names, content.sizes.tolist(), strict=True):
        write(folder / name, image_bytes(*size))
    columns: dict[str, Any] = {name: getattr(content, name) for name in content.__slots__}
    return DatasetContent(**(columns | {"images_dir": folder}))


def by_image(content: DatasetContent, *, only_objects: bool) -> Mapping[str, list[tuple[str, bool, list[float]]]]:
    """Return (class, ignored, box) of each image's boxes in their order, found one by one."""
    found: dict[str, list[tuple[str, bool, list[float]]]] = {name: [] for name in content.file_names}
    for row in range(content.num_boxes):
        ignored = bool(content.is_ignored[row])
        if not (only_objects and ignored):
            name = content.categories.names[content.labels[row]]
            boxes = found[content.file_names[content.image_index[row]]]
            boxes.append((name, ignored, content.boxes[row].tolist()))
    return found


def assert_same(before: DatasetContent, after: DatasetContent, *, only_objects: bool) -> None:
    expected, found = by_image(before, only_objects=only_objects), by_image(after, only_objects=False)
    assert found.keys() == expected.keys()
    for name, boxes in expected.items():
        assert [box[:2] for box in found[name]] == [box[:2] for box in boxes]
        for (_, _, wanted), (_, _, actual) in zip(boxes, found[name], strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=15)
@given(content=contents())
def test_a_dataset_survives_each_format(form: FormatName, content: DatasetContent) -> None:
    with tempfile.TemporaryDirectory() as name:
        content = put_images(content, Path(name, "images"))
        new = Path(name, "new")
        new.mkdir()
        write_dataset(new, form, {"train": content}, copy_images=False)
        after = read_dataset(DatasetSource(new, split="train"))
        assert after.format == form
        assert_same(content, after, only_objects=form in ("yolo", "csv"))
        if form in ("coco", "yolo"):
            assert after.categories.names == content.categories.names


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(first=st.sampled_from(FORMATS), second=st.sampled_from(FORMATS), content=contents())
def test_a_dataset_survives_two_conversions(first: FormatName, second: FormatName, content: DatasetContent) -> None:
    with tempfile.TemporaryDirectory() as name:
        content = put_images(content, Path(name, "images"))
        start = Path(name, "start")
        start.mkdir()
        write_dataset(start, "coco", {"train": content}, copy_images=False)
        convert(DatasetSource(start), first, Path(name, "one"), splits=["train"])
        convert(DatasetSource(Path(name, "one")), second, Path(name, "two"), splits=["train"], copy_images=True)
        after = read_dataset(DatasetSource(Path(name, "two"), split="train"))
        assert_same(content, after, only_objects=bool({first, second} & {"yolo", "csv"}))


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=10)
@given(
    content=contents(),
    suffixes=st.permutations([".jpg", ".png", ".jpg.png", "_png.png", "_png.jpg", ".jpg.png.png"]),
    form_of_stem=st.text(string.ascii_lowercase, min_size=1, max_size=3),
)
def test_images_whose_names_differ_little_stay_apart(
    form: FormatName, content: DatasetContent, suffixes: list[str], form_of_stem: str
) -> None:
    images = [FoundImage(f"{form_of_stem}{suffix}", (10, 20), "") for suffix in suffixes]
    boxes = [FoundBox(row, (row, 0, 2, 3), 0, 0) for row in range(len(images))]
    content = assemble("coco", Path("made"), Path("images"), images, boxes, content.categories)
    with tempfile.TemporaryDirectory() as name:
        content = put_images(content, Path(name, "images"))
        new = Path(name, "new")
        new.mkdir()
        write_dataset(new, form, {"train": content}, copy_images=False)
        after = read_dataset(DatasetSource(new, split="train"))
        for row, box in zip(after.image_index.tolist(), after.boxes.tolist(), strict=True):
            target = (after.images_dir / after.file_names[row]).resolve()
            assert target.name == images[round(box[0])].name
        assert len({stem(file) for file in after.file_names}) == len(images) or form != "yolo"
        assert after.num_boxes == len(images)
