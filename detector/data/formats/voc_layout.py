"""Where the files of a Pascal VOC dataset lie: the layout of the development kit, and those that tools made of it.

========================  ==========================================  ==================================
annotations               images                                      splits
========================  ==========================================  ==================================
``Annotations/*.xml``     ``JPEGImages/``, ``images/``, or beside     ``ImageSets/Main/<split>.txt``,
(or ``annotations``)      the XML files                               ``ImageSets/<split>.txt``
``*.xml`` (labelImg)      beside the XML files                        –
``<split>/...``           one of the above in each folder             the folders (Roboflow)
========================  ==========================================  ==================================
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detector.data.formats.image_files import ImageFiles, describe_folder, leaves_folder, list_files, normalize, stem
from detector.data.formats.text_files import quote, read_lines
from detector.errors import UserError

_ANNOTATIONS: Final = ("Annotations", "annotations")
_IMAGES: Final = ("JPEGImages", "images", "Images")
_IMAGE_SETS: Final = ("ImageSets/Main", "ImageSets")
_ONE_CLASS: Final = re.compile(r"(.*\S)\s+(-1|0|1)")


@dataclass(frozen=True, slots=True)
class VocEntry:
    """An image of a split.

    Attributes:
        name: its name in the image set: path of the XML file below the annotations, without extension.
        source: the line or file that names it, for messages.
        xml: its XML file, relative to the dataset's path; None where it has none, so no boxes.
        images: image files with its name, relative to the image folder; usually one.
    """

    name: str
    source: str
    xml: str | None
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VocSplit:
    """The images of a split: all files of the image folder, and at least one entry."""

    files: ImageFiles
    entries: list[VocEntry]


def find_split(path: Path, split: str | None, images_dir: Path | None) -> VocSplit:
    """Find the files of a split.

    Args:
        path: folder of the dataset.
        split: name of an image set or of a folder; None = all XML files, in alphabetical order.
        images_dir: folder of the images; None = where they are usually.

    Raises:
        UserError: a folder, an image set or both files of one of its images are missing, or a line is wrong.
    """
    image_set = None if split is None else _find_image_set(path, split)
    root = path if split is None or image_set is not None else path / split
    annotations = find_annotations(root)
    if annotations is None:
        raise _no_annotations(path, split)
    if images_dir is None:
        images_dir = next((root / name for name in _IMAGES if (root / name).is_dir()), annotations)
    elif not images_dir.is_dir():
        raise UserError(f"{images_dir}: no such folder; expected the folder with the images of {path}")
    files = ImageFiles.below(images_dir, recursive=images_dir != root)
    prefix = "" if annotations == path else f"{annotations.relative_to(path).as_posix()}/"
    names = sorted(
        filter(_is_xml, list_files(annotations, recursive=annotations != root)), key=lambda name: (stem(name), name)
    )
    xml = {stem(name): prefix + name for name in names}
    if len(xml) < len(names):
        twins = next(pair for pair in itertools.pairwise(names) if stem(pair[0]) == stem(pair[1]))
        raise UserError(f"{annotations}: {' and '.join(twins)} differ in their extensions only, expected one of them")
    if image_set is None:
        entries = [VocEntry(name, file, file, tuple(files.by_stem.get(name, ()))) for name, file in xml.items()]
    else:
        entries = _read_image_set(path, image_set, xml, files)
    return VocSplit(files, entries)


def find_annotations(folder: Path) -> Path | None:
    """Return where the XML files of a folder are: in ``Annotations`` or in the folder itself; None = nowhere."""
    for name in _ANNOTATIONS:
        if (folder / name).is_dir() and any(map(_is_xml, list_files(folder / name))):
            return folder / name
    return folder if folder.is_dir() and any(map(_is_xml, list_files(folder, recursive=False))) else None


def folders_with_annotations(path: Path) -> list[str]:
    """Return the folders in a folder that are laid out as VOC, such as the splits that Roboflow writes."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and find_annotations(entry) is not None)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _find_image_set(path: Path, split: str) -> Path | None:
    files = (path / place / f"{split}.txt" for place in _IMAGE_SETS)
    return next((file for file in files if file.is_file()), None)


def _no_annotations(path: Path, split: str | None) -> UserError:
    if split is None:
        looked = f"no XML files: looked for {', '.join(f'{name}/*.xml' for name in _ANNOTATIONS)} and *.xml"
        splits = ", ".join(folders_with_annotations(path))
        advice = f"there are some in {splits}: choose one with split, as in data.train.split=train"
        return UserError(f"{path}: {looked}; {advice if splits else f'the folder {describe_folder(path)}'}")
    sets = {file.stem for place in _IMAGE_SETS for file in (path / place).glob("*.txt")}
    names = sorted(sets, key=lambda name: ("_" in name, name))[:8]  # those of one class, such as cat_train, last
    looked = f"no split {split!r}: looked for {_IMAGE_SETS[0]}/{split}.txt and for XML files in {split}/"
    found = f"the image sets are {', '.join(names)}" if names else f"the folder {describe_folder(path)}"
    return UserError(f"{path}: {looked}; {found}")


def _read_image_set(path: Path, file: Path, xml: dict[str, str], files: ImageFiles) -> list[VocEntry]:
    place = file.relative_to(path).as_posix()
    lines = {number: text.strip() for number, text in enumerate(read_lines(file), start=1)}
    entries: dict[str, VocEntry] = {}
    for number, text in lines.items():
        if not text:
            continue
        where, name = f"{file}:{number}", normalize(text)
        if leaves_folder(text):
            raise UserError(f"{where}: {quote(text)} is no path inside the folder of the annotations")
        if name in entries:
            raise UserError(f"{where}: {quote(name)} stands there twice, first in {entries[name].source}")
        images = tuple(files.by_stem.get(name, ()))
        if name not in xml and not images:
            raise UserError(f"{where}: {_no_such_image(name, xml, files)}")
        entries[name] = VocEntry(name, f"{place}:{number}", xml.get(name), images)
    if not entries:
        raise UserError(f"{file}: the image set is empty, expected the name of an image on each line")
    return list(entries.values())


def _no_such_image(name: str, xml: dict[str, str], files: ImageFiles) -> str:
    column = _ONE_CLASS.fullmatch(name)
    if column is not None and (column[1] in xml or column[1] in files.by_stem):
        return (
            f"{quote(name)}: this is an image set of one class, with -1, 0 or 1 behind each name; expected one with "
            "names only, such as train or val"
        )
    advice = f"; write {quote(stem(name))}, without the extension" if stem(name) in xml else ""
    return f"{quote(name)} has neither an XML file nor an image in {files.folder}{advice}"
