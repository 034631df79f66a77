"""Pascal VOC: one XML file an image, boxes in whole pixels counted from 1, splits as lists of image names.

Source: the development kit of VOC 2012, Sec. 4. ``xmin`` and ``xmax`` are the first and the last column of pixels that
an object covers, so in continuous coordinates it reaches from ``xmin - 1`` to ``xmax``. Numbers with decimals, which
many tools write, are read by the same rule. A box with ``xmin >= xmax`` or ``ymin >= ymax`` has no area: its width or
height here is the difference, 0 or less.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from detector.data.formats.columns import ClassNames, FoundBox, FoundImage, assemble
from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent
from detector.data.formats.image_files import ImageFiles, is_image, leaves_folder, normalize
from detector.data.formats.text_files import quote, read_number
from detector.data.formats.voc_layout import VocEntry, find_split
from detector.data.formats.xml_tree import Element, read_xml
from detector.errors import UserError
from detector.structures import Size

_MAX_SIDE: Final = 2**31 - 1
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
_FLAGS: Final = {"": False, "0": False, "1": True, "false": False, "true": True, "unspecified": False}


def read_voc(path: Path, split: str | None = None, images_dir: Path | None = None) -> DatasetContent:
    """Read a split of a dataset in Pascal VOC format.

    Args:
        path: folder with ``Annotations`` or with the XML files themselves; see
            :func:`detector.data.formats.voc_layout.find_split`.
        split: name of an image set; None = all XML files.
        images_dir: folder of the images; None = where they are usually.

    Returns:
        Its content. Objects marked as difficult are ignore regions; classes are those that occur, in alphabetical
        order; an image of the image set without an XML file has no boxes.

    Raises:
        UserError: folders or files are missing, or a file is not what the format says; names file and line.
    """
    found = find_split(path, split, images_dir)
    images: list[FoundImage] = []
    boxes: list[FoundBox] = []
    classes = ClassNames()
    sources: dict[str, str] = {}
    for entry in found.entries:
        if entry.xml is None:
            name, size = _image_without_xml(path, entry), (UNKNOWN_SIZE, UNKNOWN_SIZE)
        else:
            file = path / entry.xml
            root = _read_root(file)
            name, size = _image_of(file, root, entry, found.files), _read_size(file, root)
            boxes += _read_objects(file, root, len(images), classes)
        if name in sources:
            raise UserError(f"{path}: {sources[name]} and {entry.source} both belong to the image {quote(name)}")
        sources[name] = entry.source
        images.append(FoundImage(name, size, entry.xml or ""))
    categories, boxes = classes.sort(path, boxes)
    return assemble("voc", path, found.files.folder, images, boxes, categories)


def _read_root(file: Path) -> Element:
    root = read_xml(file)
    if root.tag != "annotation":
        raise UserError(f"{file}:{root.line}: the root is <{root.tag}>, expected <annotation>: Pascal VOC")
    return root


def _image_without_xml(path: Path, entry: VocEntry) -> str:
    if len(entry.images) > 1:
        raise UserError(f"{path}: {entry.source}: several images have that name: {', '.join(entry.images)}")
    return entry.images[0]


def _image_of(file: Path, root: Element, entry: VocEntry, files: ImageFiles) -> str:
    """Return the image of an XML file: the one with its name, else the one that it names itself.

    In this order, like other readers, because ``<filename>`` is often left over from before files were renamed.
    """
    if len(entry.images) == 1:
        return entry.images[0]
    element = root.find("filename")
    written = "" if element is None else element.text
    folder = posixpath.dirname(entry.name)
    for name in dict.fromkeys((posixpath.join(folder, written), written)):
        if normalize(name) in files.names:
            return normalize(name)
    if entry.images:
        raise UserError(f"{file}: several images have its name: {', '.join(entry.images)}; expected one in <filename>")
    if element is not None and leaves_folder(written):
        raise UserError(f"{file}:{element.line}: <filename> {quote(written)} is no path inside {files.folder}")
    return normalize(written) if is_image(written) else f"{entry.name}.jpg"  # missing, for others to say


def _read_size(file: Path, root: Element) -> Size:
    """Return (height, width); UNKNOWN_SIZE for both where one is missing or 0, as tools write that do not know it."""
    size = root.find("size")
    sides = [None if size is None else size.find(tag) for tag in ("height", "width")]
    height, width = (UNKNOWN_SIZE if side is None or not side.text else _read_side(file, side) for side in sides)
    return (UNKNOWN_SIZE, UNKNOWN_SIZE) if UNKNOWN_SIZE in (height, width) else (height, width)


def _read_side(file: Path, element: Element) -> int:
    value = read_number(element.text)
    if value is None or not value.is_integer() or not 0 <= value <= _MAX_SIDE:
        raise UserError(
            f"{file}:{element.line}: <{element.tag}> is {quote(element.text)}, expected a whole number of pixels"
        )
    return int(value)


def _read_objects(file: Path, root: Element, image: int, classes: ClassNames) -> Iterator[FoundBox]:
    objects = (child for child in root.children if child.tag == "object")
    for number, element in enumerate(objects, start=1):
        name = _child(file, element, number, "name")
        if not name.text:
            raise UserError(f"{file}:{name.line}: object {number}: <name> is empty, expected the name of a class")
        box = _read_box(file, _child(file, element, number, "bndbox"), number)
        yield FoundBox(image, box, classes.label_of(name.text), number, _is_difficult(file, element, number))


def _read_box(file: Path, element: Element, number: int) -> tuple[float, float, float, float]:
    """Return (x, y, width, height), continuous; see the top of this file."""
    corners = []
    for tag in _CORNERS:
        corner = _child(file, element, number, tag)
        value = read_number(corner.text)
        if value is None:
            raise UserError(
                f"{file}:{corner.line}: object {number}: <{tag}> is {quote(corner.text)}, expected a finite number"
            )
        corners.append(value)
    xmin, ymin, xmax, ymax = corners
    return xmin - 1, ymin - 1, _extent(xmin, xmax), _extent(ymin, ymax)


def _extent(first: float, last: float) -> float:
    return last - first + 1 if last > first else last - first


def _is_difficult(file: Path, element: Element, number: int) -> bool:
    flag = element.find("difficult")
    if flag is None:
        return False
    if (text := flag.text.lower()) not in _FLAGS:
        raise UserError(f"{file}:{flag.line}: object {number}: <difficult> is {quote(flag.text)}, expected 0 or 1")
    return _FLAGS[text]


def _child(file: Path, element: Element, number: int, tag: str) -> Element:
    child = element.find(tag)
    if child is None:
        raise UserError(f"{file}:{element.line}: object {number}: <{element.tag}> has no <{tag}>")
    same = [one.line for one in element.children if one.tag == tag]
    if len(same) > 1:
        raise UserError(f"{file}:{same[1]}: object {number}: <{element.tag}> has <{tag}> twice")
    return child
