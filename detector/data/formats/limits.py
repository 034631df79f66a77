"""What a format cannot hold: said before it is written, left out where it must be, never turned into something else."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from detector.data.formats.content import DatasetContent, FormatName
from detector.data.formats.image_files import IMAGE_SUFFIXES, is_image, normalize, stem
from detector.data.formats.text_files import quote
from detector.data.formats.yolo_labels import MAX_COORDINATE
from detector.errors import UserError

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 (Sec. 2.2) does not allow, escaped or not."""

MAX_NAMES: Final = 20
"""So many classes are named in a message."""

TOLERANCE: Final = 1e-3
"""Pixels by which a box may change; what the digits of YOLO's numbers keep to in images of up to 100,000."""

_THIN: Final = 1 + 1e-6  # what rounding makes of a side of one pixel


@dataclass(frozen=True, slots=True)
class Fitted:
    """The part of a dataset that a format can hold, and what was left out or changes, a line each."""

    content: DatasetContent
    notes: Sequence[str]


class NoBoxError(UserError):
    """No box is left for a format that has no list of classes."""


def fit_to(content: DatasetContent, form: FormatName, split: str) -> Fitted:
    """Return the part of a dataset that a format can hold.

    Args:
        content: all sizes known.
        form: the format.
        split: its name, for messages.

    Raises:
        NoBoxError: see there.
        UserError: a name of an image or of a class cannot be written, or two images have the same name.
    """
    _check_file_names(content, form)
    keep = np.ones(content.num_boxes, dtype=np.bool_)
    notes = []
    for reason, rows in _unfit(content, form):
        if count := int((rows & keep).sum()):
            notes.append(f"left out: {count} {reason}")
        keep &= ~rows
    fitted = content.select_boxes(keep)
    if form in ("coco", "yolo"):
        return Fitted(fitted, notes)
    _check_class_names(content, form)
    if not fitted.num_boxes:
        raise NoBoxError(
            f"{content.path}: no box to write in {split}; {form.upper()} has no list of classes, so that a dataset "
            "without boxes could not be read"
        )
    if form == "voc" and (thin := int(is_thin(fitted.boxes).sum())):
        notes.append(f"{thin} boxes at most one pixel wide or high, which VOC cannot tell from boxes without area")
    return Fitted(fitted, notes)


def notes_on_classes(splits: Mapping[str, DatasetContent], form: FormatName) -> list[str]:
    """Return what becomes of classes where a format has no list of them, a line each.

    Args:
        splits: what is written, by the names of the splits: all with the same classes.
        form: the format.
    """
    if form not in ("voc", "csv"):
        return []
    names = next(iter(splits.values())).categories.names
    present = {split: {names[label] for label in np.unique(part.labels).tolist()} for split, part in splits.items()}
    lost = [name for name in names if not any(name in found for found in present.values())]
    notes = [f"left out: {len(lost)} classes without a box: {enumerate_names(lost)}"] if lost else []
    train, *others = present
    for split in others:
        if new := [name for name in names if name in present[split] - present[train]]:
            notes.append(
                f"{split} has {len(new)} classes that {train} lacks, which {form.upper()} has no list of, so that "
                f"training would refuse {split}: {enumerate_names(new)}"
            )
    return notes


def notes_on_ids(splits: Mapping[str, DatasetContent], form: FormatName) -> list[str]:
    """Return whether ids are lost, as only COCO has any: other formats are numbered as they are read.

    Args:
        splits: what is written, by the names of the splits: all with the same classes.
        form: the format.
    """
    contents = list(splits.values())
    if form == "coco" or any(content.format != "coco" for content in contents):
        return []
    categories, is_yolo, lost = contents[0].categories, form == "yolo", []
    used = range(len(categories)) if is_yolo else sorted({int(x) for content in contents for x in content.labels})
    names, ids = ([column[label] for label in used] for column in (categories.names, categories.ids))
    start = 0 if is_yolo else 1
    if ids != list(range(start, start + len(ids))) or not (is_yolo or names == sorted(names)):
        lost.append("categories")
    if any(
        not np.array_equal(content.image_ids, np.arange(1, content.num_images + 1))
        or (is_yolo and list(content.file_names) != sorted(content.file_names))
        for content in contents
    ):
        lost.append("images")
    return [f"{form.upper()} numbers {' and '.join(lost)} anew: their ids are not kept"] if lost else []


def enumerate_names(names: Sequence[str]) -> str:
    """Return names with commas, the first of them where they are many."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _unfit(content: DatasetContent, form: FormatName) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield what cannot be written, with a flag for each box."""
    boxes = content.boxes
    is_finite = np.isfinite(np.concatenate([boxes, _derived(content, form)], axis=1)).all(axis=1)
    yield "boxes with a number that is not finite", np.logical_not(is_finite)
    if form in ("voc", "csv"):
        reason = f"boxes so far away that {form.upper()}'s numbers, which are corners, do not tell their sides"
        yield reason, np.logical_not((np.abs(_sides_of_corners(boxes, form) - boxes[:, 2:]) <= TOLERANCE).all(axis=1))
    if form in ("yolo", "csv"):
        yield f"ignore regions (crowds, difficult objects), as {form.upper()} knows objects only", content.is_ignored
    if form == "yolo":
        sizes = np.tile(content.sizes[content.image_index][:, ::-1], 2)
        with np.errstate(over="ignore", invalid="ignore"):
            centers = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1) / sizes
        reason = f"boxes further than {MAX_COORDINATE:g} times the image's side away from it"
        yield reason, np.logical_not((np.abs(centers) < MAX_COORDINATE).all(axis=1))


def _derived(content: DatasetContent, form: FormatName) -> npt.NDArray[np.float64]:
    """Return what is written of boxes besides their own numbers: areas (COCO) or lower right corners [B, 1 or 2]."""
    boxes = content.boxes
    with np.errstate(over="ignore", invalid="ignore"):
        if form != "coco":
            return boxes[:, :2] + boxes[:, 2:]
        return np.where(np.isnan(content.areas), boxes[:, 2] * boxes[:, 3], content.areas)[:, None]


def _sides_of_corners(boxes: npt.NDArray[np.float64], form: FormatName) -> npt.NDArray[np.float64]:
    """Return the sides [B, 2] that readers compute; VOC counts pixels from 1 on, the last one included."""
    first = 1 if form == "voc" else 0
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((boxes[:, :2] + boxes[:, 2:]) - (boxes[:, :2] + first) + first)


def is_thin(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether a box [B, 4] is at most one pixel wide or high, which VOC's numbers say of boxes without area too."""
    sides = boxes[:, 2:]
    return np.asarray(((sides > 0) & (sides <= _THIN)).any(axis=1))


def _check_file_names(content: DatasetContent, form: FormatName) -> None:
    seen: set[str] = set()
    for name in map(normalize, content.file_names):
        if name in seen:
            raise UserError(f"{content.path}: two images are named {quote(name)}, expected different names")
        seen.add(name)
        if (problem := _problem_of_file_name(name, form)) is not None:
            raise UserError(f"{content.path}: the image {quote(name)} {problem}")


def _problem_of_file_name(name: str, form: FormatName) -> str | None:
    """Return why a format cannot hold a file name; None = it can."""
    if form == "coco":
        return None
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        return "has a name that is no UTF-8 text"
    if form in ("voc", "csv") and (name != name.strip() or stem(name) != stem(name).strip()):
        return f"has a name that begins or ends with white space, which {form.upper()} does not keep"
    if form == "voc" and (_NO_XML.search(name) or "\n" in name or "\r" in name):
        return "has a name with a character that VOC's XML files and lists cannot hold"
    if form in ("voc", "yolo") and (name.startswith(".") or "/." in name):
        return "has a hidden name (it begins with a dot), which readers of folders pass over"
    if form == "yolo" and not is_image(name):
        return f"has another extension than {', '.join(sorted(IMAGE_SUFFIXES))}, by which YOLO finds images"
    return None


def _check_class_names(content: DatasetContent, form: FormatName) -> None:
    for name in content.categories.names:
        if name != name.strip():
            raise UserError(
                f"{content.path}: the class {quote(name)} begins or ends with white space, which {form.upper()} does "
                "not keep"
            )
        if "\0" in name or (form == "voc" and _NO_XML.search(name)):
            raise UserError(f"{content.path}: the class {quote(name)} has a character that {form.upper()} cannot hold")
