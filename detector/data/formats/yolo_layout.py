"""Where the files of a YOLO dataset lie: as its ``data.yaml`` says, or by the names of its folders.

=======================================  =====================================  =================================
images                                   labels                                 classes
=======================================  =====================================  =================================
as :mod:`~detector.data.formats.         the last ``/images/`` of an image's    ``names`` of data.yaml
yolo_yaml` says                          path becomes ``/labels/``, else
                                         beside it
``images/<split>``, ``<split>/images``,  likewise                               ``classes.txt``, ``obj.names``
``<split>``; the only split also                                                or another ``*.names``
``images`` or the dataset's folder
=======================================  =====================================  =================================
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detector.data.formats.image_files import describe_folder, is_image, list_files, stem
from detector.data.formats.text_files import quote, read_lines
from detector.data.formats.yaml_mapping import read_yaml_mapping
from detector.data.formats.yolo_yaml import (
    ImageList,
    count_keypoint_values,
    find_images,
    find_yaml,
    has_names,
    read_class_names,
)
from detector.errors import UserError

_CLASS_FILES: Final = ("classes.txt", "obj.names", "*.names")
_SPLIT_FOLDERS: Final = frozenset({"train", "val", "valid", "test"})
_LABELS: Final = "labels"
_IMAGES: Final = "images"


@dataclass(frozen=True, slots=True)
class YoloSplit:
    """The images of a split.

    Attributes:
        root: the folder of the dataset, for messages.
        images_dir: folder that ``file_names`` are relative to.
        file_names: at least one.
        label_files: one for each image; None where it has none.
        class_names: at least one.
        num_keypoint_values: numbers behind each box, for keypoints.
    """

    root: Path
    images_dir: Path
    file_names: Sequence[str]
    label_files: Sequence[Path | None]
    class_names: Sequence[str]
    num_keypoint_values: int


def find_split(path: Path, split: str | None, images_dir: Path | None) -> YoloSplit:
    """Find the files of a split.

    Args:
        path: folder of the dataset, or its data.yaml.
        split: name of the split; None = the only one.
        images_dir: folder of the images, for datasets without data.yaml; None = where they are usually.

    Raises:
        UserError: images, labels or class names are missing, or data.yaml or a list is wrong.
    """
    file = find_yaml(path)
    num_keypoint_values = 0
    if file is None:
        images = _find_images(path, split, images_dir)
        labels = _find_labels(path, split, images, is_elsewhere=images_dir is not None)
        names = _read_class_file(path, labels)
    elif images_dir is not None:
        raise UserError(f"{images_dir}: images: cannot be chosen, as {file} says where they are; leave it out")
    else:
        values = read_yaml_mapping(file)
        names, images = read_class_names(file, values), find_images(file, values, split)
        num_keypoint_values = count_keypoint_values(values)
        labels = _find_labels(path, split, images, is_elsewhere=False)
    _check_names(path if file is None else file, names)
    if not any(labels):
        example = label_path(images.folder / images.names[0])
        raise UserError(
            f"{path}: none of the {len(images.names)} images in {images.folder} has a label file; looked for {example} "
            "and for one beside the image"
        )
    root = path if path.is_dir() else path.parent
    return YoloSplit(root.absolute(), images.folder, images.names, labels, names, num_keypoint_values)


def label_path(image: Path) -> Path:
    """Return where the labels of an image belong: the last ``/images/`` becomes ``/labels/``, the extension .txt."""
    head, slash, tail = str(image).rpartition(f"{os.sep}{_IMAGES}{os.sep}")
    text = f"{head}{os.sep}{_LABELS}{os.sep}{tail}" if slash else str(image)
    return Path(f"{stem(text)}.txt")


def _find_images(path: Path, split: str | None, images_dir: Path | None) -> ImageList:
    """Find the images of a dataset without data.yaml."""
    if images_dir is not None:
        places = [images_dir] if split is None else [images_dir / split, images_dir]
    elif split is not None:
        places = [path / _IMAGES / split, path / split / _IMAGES, path / split]
    else:
        places = [path / _IMAGES, path]
    for place in places:
        # Below the dataset's own folder are other things too.
        names = sorted(filter(is_image, list_files(place, recursive=place != path))) if place.is_dir() else []
        folders = sorted({name.split("/")[0] for name in names if "/" in name} & _SPLIT_FOLDERS)
        if split is None and folders:
            raise UserError(
                f"{place}: which split is meant? The folder holds {', '.join(folders)}; choose it with split, as in "
                "data.train.split=train"
            )
        if names:
            return ImageList(Path(os.path.abspath(place)), names)  # noqa: PTH100 (links stay what they are called)
    looked = ", ".join(map(str, places))
    raise UserError(f"{path}: no data.yaml, and no images in {looked}; the folder {describe_folder(path)}")


def _find_labels(path: Path, split: str | None, images: ImageList, *, is_elsewhere: bool) -> list[Path | None]:
    """Return the label file of each image, None where there is none.

    Args:
        path: the dataset's folder.
        split: name of the split.
        images: the images.
        is_elsewhere: the images were chosen by the user, so the labels lie in the dataset's folder.
    """
    if is_elsewhere:
        inner = [] if split is None else [path / _LABELS / split, path / split / _LABELS, path / split]
        folder = next(place for place in (*inner, path / _LABELS, path) if place.is_dir())
        files = [folder / f"{stem(name)}.txt" for name in images.names]
    else:
        files = _labels_of(images)
    return [file if file.is_file() else None for file in files]


def _labels_of(images: ImageList) -> list[Path]:
    """Return where the label files of images are if they have any: one rule for all images of a folder."""
    folders: dict[str, Path] = {}
    files = []
    for name in images.names:
        folder, _, file = name.rpartition("/")
        if folder not in folders:
            beside = images.folder / folder
            usual = label_path(beside / "any").parent
            folders[folder] = usual if usual.is_dir() else beside
        files.append(folders[folder] / f"{stem(file)}.txt")
    return files


def _read_class_file(path: Path, labels: Sequence[Path | None]) -> list[str]:
    """Read the names of the classes, one a line, from a file in the dataset's folder or beside the labels."""
    first = next((file.parent for file in labels if file is not None), path)
    folders = dict.fromkeys((path, path / _LABELS, first, first.parent))
    for folder in folders:
        for pattern in _CLASS_FILES:
            for file in sorted(folder.glob(pattern)):
                names = [line.strip() for line in read_lines(file)]
                while names and not names[-1]:
                    names.pop()
                if "" in names:
                    raise UserError(f"{file}:{names.index('') + 1}: an empty line, expected the name of a class")
                return names
    looked = " or ".join(map(str, folders))
    raise UserError(
        f"{path}: no class names: looked for data.yaml there, and for {', '.join(_CLASS_FILES)} in {looked}"
    )


def _check_names(file: Path, names: Sequence[str]) -> None:
    for label, name in enumerate(names):
        if not name or any("\ud800" <= character <= "\udfff" for character in name):
            raise UserError(f"{file}: class {label} has the name {name!a}, expected text")
        if names.index(name) < label:
            raise UserError(f"{file}: classes {names.index(name)} and {label} have the same name {quote(name)}")
    if not names:
        raise UserError(f"{file}: there is no class, expected at least one name")


def looks_like_yolo(path: Path) -> str | None:
    """Return what in a folder is a sign of a YOLO dataset; None = nothing."""
    if (file := find_yaml(path)) is not None and has_names(file):
        return file.name
    for pattern in (_LABELS, f"*/{_LABELS}", *_CLASS_FILES):
        if (sign := next(path.glob(pattern), None)) is not None and (sign.is_file() or any(sign.rglob("*.txt"))):
            return sign.relative_to(path).as_posix()
    return None
