"""The ``data.yaml`` of a YOLO dataset: its classes, and where the images of a split are.

Each of ``train``, ``val`` and ``test`` is a folder, a list of folders, or a text file that lists images. They are
relative to the folder ``path``, which is itself relative to the YAML file. Where they are not there, because the
dataset was made elsewhere, the folder of the YAML file counts; so does it for Roboflow's ``../train/images``, which
means ``train/images`` beside the YAML file. Ultralytics reads them in the same way.

A data.yaml may name folders anywhere, as its author chose them. The lists that it names may not: an image lies in the
dataset's folder or in that of the list.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detector.data.formats.image_files import describe_folder, is_image, list_files
from detector.data.formats.text_files import quote, read_bytes, read_lines
from detector.data.formats.yaml_mapping import YamlValue
from detector.errors import UserError

_FILE_NAMES: Final = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS: Final = ("train", "val", "test")
_NO_SPLITS: Final = ("path", "names", "nc", "download")
_NAMES_KEY: Final = re.compile(rb"(?:^(?:\xef\xbb\xbf)?|[{,]\s*)['\"]?names['\"]?\s*:", re.MULTILINE)
_NAMES: Final = "a list of class names, or a mapping from 0, 1, ... to class names"


@dataclass(frozen=True, slots=True)
class ImageList:
    """Images of a folder, named relative to it."""

    folder: Path
    names: Sequence[str]


def find_yaml(path: Path) -> Path | None:
    """Return the YAML file that describes a dataset: ``path`` itself, or one in that folder; None = there is none."""
    if path.is_file():
        return path
    usual = [path / name for name in _FILE_NAMES if (path / name).is_file()]
    others = [file for pattern in ("*.yaml", "*.yml") for file in path.glob(pattern) if has_names(file)]
    return usual[0] if usual else others[0] if len(others) == 1 else None


def has_names(file: Path) -> bool:
    """Whether a YAML file names classes, without which it is another one, such as settings of a program."""
    return file.is_file() and _NAMES_KEY.search(read_bytes(file)) is not None


def read_class_names(file: Path, values: Mapping[str, YamlValue]) -> list[str]:
    """Return the classes of a data.yaml, class 0 first.

    Raises:
        UserError: there are none, a number is missing or ``nc`` is another one.
    """
    if (value := values.get("names")) is None:
        raise UserError(f"{file}: key 'names' is missing, expected {_NAMES}")
    if value.is_mapping():
        pairs = value.pairs(_NAMES)
        by_number = dict(pairs)
        wanted = [str(number) for number in range(len(pairs))]
        if sorted(by_number) != sorted(wanted) or len(by_number) < len(pairs):
            found = ", ".join(key for key, _ in pairs)
            raise UserError(f"{value.place}: 'names' has the keys {found}, expected 0 ... {len(pairs) - 1}, each once")
        names = [by_number[number] for number in wanted]
    else:
        names = value.texts(_NAMES) if value.is_list() else []
    if not names:
        raise UserError(f"{value.place}: 'names' holds no class, expected {_NAMES}")
    if (count := values.get("nc")) is not None and count.texts("a number") != [str(len(names))]:
        raise UserError(
            f"{count.place}: 'nc' is {quote(' '.join(count.texts('a number')))}, but there are {len(names)} names"
        )
    return names


def count_keypoint_values(values: Mapping[str, YamlValue]) -> int:
    """Return how many numbers stand behind the box of each object in a dataset for poses; 0 = it is for boxes.

    Raises:
        UserError: ``kpt_shape`` is not [number of keypoints, 2 or 3].
    """
    if (value := values.get("kpt_shape")) is None:
        return 0
    expected = "[number of keypoints, 2 or 3]"
    texts = value.texts(expected)
    if len(texts) != 2 or not re.fullmatch("[1-9][0-9]{0,3}", texts[0]) or texts[1] not in ("2", "3"):
        raise UserError(f"{value.place}: 'kpt_shape' is {quote(', '.join(texts))}, expected {expected}")
    return int(texts[0]) * int(texts[1])


def find_images(file: Path, values: Mapping[str, YamlValue], split: str | None) -> ImageList:
    """Find the images of a split.

    Args:
        file: the data.yaml.
        values: its content.
        split: one of its keys; None = the only one of train, val and test.

    Raises:
        UserError: there is no such split, folder or list, it holds no images, or one of them twice.
    """
    value = _choose_split(file, values, split)
    home = file.absolute().parent
    written = [home / text for text in values["path"].texts("a folder")] if "path" in values else []
    bases = [_tidy(folder) for folder in (*written, home)]
    dataset = next(folder for folder in bases if folder.is_dir())
    texts = value.texts("a folder, a list of folders, or a text file that lists images")
    parts = [_images_at(_find_place(value, text, bases), dataset) for text in texts]
    if not parts:
        raise UserError(f"{value.place}: '{value.key}' is an empty list, expected folders of images")
    images = parts[0] if len(parts) == 1 else _join(parts)
    (name, count), *_ = Counter(images.names).most_common(1)
    if count > 1:
        raise UserError(f"{value.place}: '{value.key}' names the image {quote(name)} twice")
    return images


def _choose_split(file: Path, values: Mapping[str, YamlValue], split: str | None) -> YamlValue:
    present = [name for name in _SPLITS if name in values]
    found = f"it has {', '.join(present)}" if present else f"it has none of {', '.join(_SPLITS)}"
    if split is None:
        if len(present) != 1:
            raise UserError(
                f"{file}: which split is meant? {found}; choose it with split, as in data.train.split=train"
            )
        return values[present[0]]
    if split not in values or split in _NO_SPLITS:
        raise UserError(f"{file}: no split {split!r}; {found}")
    return values[split]


def _find_place(value: YamlValue, text: str, bases: Sequence[Path]) -> Path:
    tried = []
    for base in bases:
        for relative in (text, text.removeprefix("../")):
            place = _tidy(base / relative)
            if place.exists():
                return place
            tried.append(str(place))
    looked = ", ".join(dict.fromkeys(tried))
    raise UserError(f"{value.place}: '{value.key}' is {quote(text)}, but there is nothing at {looked}")


def _images_at(place: Path, dataset: Path) -> ImageList:
    if place.is_file():
        return _read_list(place, dataset)
    names = sorted(filter(is_image, list_files(place)))
    if not names:
        raise UserError(f"{place}: no images; the folder {describe_folder(place)}")
    return ImageList(place, names)


def _read_list(file: Path, dataset: Path) -> ImageList:
    """Read a text file that lists images; a path is relative to the file's folder or to the dataset's."""
    roots = (file.parent, dataset)
    folder = Path(os.path.commonpath(roots))
    names = []
    for number, line in enumerate(read_lines(file), start=1):
        if not (text := line.strip()):
            continue
        inside = [place for root in roots if _is_inside(place := _tidy(root / text), roots)]
        if not inside or "\0" in text:
            raise UserError(f"{file}:{number}: {quote(text)} is neither in {' nor in '.join(map(str, roots))}")
        found = next((place for place in inside if place.is_file()), inside[0])
        names.append(found.relative_to(folder).as_posix())
    if not names:
        raise UserError(f"{file}: the list of images is empty, expected the path of an image on each line")
    return ImageList(folder, names)


def _is_inside(place: Path, roots: Sequence[Path]) -> bool:
    return any(place.is_relative_to(root) and place != root for root in roots)


def _join(parts: Sequence[ImageList]) -> ImageList:
    folder = Path(os.path.commonpath([part.folder for part in parts]))
    prefixes = [part.folder.relative_to(folder) for part in parts]
    return ImageList(
        folder,
        [(prefix / name).as_posix() for prefix, part in zip(prefixes, parts, strict=True) for name in part.names],
    )


def _tidy(path: Path) -> Path:
    """Return a path without "..", by its text alone: links to folders stay what they are called."""
    return Path(os.path.normpath(path))
