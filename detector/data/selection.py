"""Which of a dataset's images and boxes are used: held-out images, some classes, a part, images without boxes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from detector.data.box_cleaning import clean_content
from detector.data.formats.content import DatasetContent
from detector.errors import UserError
from detector.structures import Categories

Rows = npt.NDArray[np.int64]

_FRACTION, _EMPTY = 3, 4  # streams of random numbers of their own, beside those of order and augmentation (1, 2)


def hold_out(content: DatasetContent, *, fraction: float, seed: int, group: str | None = None) -> tuple[Rows, Rows]:
    """Divide the images of a dataset in two, a pure function of the seed and the file names, whatever their order.

    Groups come in random order to the second part, each if that brings it nearer to its share.

    Args:
        content: at least two images, in at least two groups.
        fraction: share of the second part in the images, in (0, 1); each part gets at least one group.
        seed: non-negative.
        group: regular expression; images whose file names have the same match (of its first group, if it has one) stay
            together, those without a match stand alone. None = every image stands alone.

    Returns:
        Rows of the images to learn from and of those held out, rising.

    Raises:
        UserError: there is only one group.
    """
    keys = [f"\0{name}" if group is None else _group_of(name, group) for name in content.file_names]
    _, group_of, sizes = np.unique(np.array(keys, dtype=object), return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        is_one = len(set(content.file_names)) == 1
        reason = "it has one image" if is_one else f"all its images are of one group by {group!r}"
        raise UserError(f"{content.path}: no part of it can be held out: {reason}; expected at least two")
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen: list[int] = []
    missing = fraction * len(keys)
    for group_index, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= 2 * missing and len(chosen) < len(sizes) - 1:
            chosen.append(group_index)
            missing -= size
    is_held_out = np.isin(group_of, chosen or [order[np.argmin(sizes[order])]])
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def select_classes(content: DatasetContent, names: Sequence[str]) -> DatasetContent:
    """Keep only some classes and their boxes; images stay.

    Raises:
        UserError: the dataset has no class of one of the names.
    """
    unknown = [name for name in names if name not in content.categories.names]
    if unknown:
        raise UserError(
            f"data.classes: {content.path} has no class {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(content.categories.names)}{_suggest(unknown[0], content.categories)}"
        )
    return content.select_classes(names)


def number_by(content: DatasetContent, categories: Categories) -> DatasetContent:
    """Give a dataset the classes of another one, matched by name: for formats that have no list of classes.

    Args:
        content: its classes are among ``categories``.
        categories: the classes it has afterwards, whose ids and order its labels follow.

    Raises:
        UserError: a class that occurs in the dataset is not among ``categories``.
    """
    for label, name in enumerate(content.categories.names):
        boxes = np.flatnonzero(content.labels == label)
        if name in categories.names or not len(boxes):
            continue
        raise UserError(
            f"{content.path}: {content.describe_box(int(boxes[0]))}: unknown class {name!r} ({len(boxes)} such boxes), "
            f"expected one of {', '.join(categories.names)}{_suggest(name, categories)}"
        )
    new_label = np.array([_index(categories.names, name) for name in content.categories.names], dtype=np.int64)
    return replace(content, labels=new_label[content.labels], categories=categories)


def take_fraction(content: DatasetContent, fraction: float, seed: int) -> DatasetContent:
    """Keep a random part of the images, at least one."""
    if fraction == 1:
        return content
    count = max(1, round(fraction * content.num_images))
    drawn = np.random.default_rng((seed, _FRACTION)).permutation(content.num_images)[:count]
    return content.select_images(np.sort(drawn))


def limit_empty_images(content: DatasetContent, limit: float, seed: int) -> DatasetContent:
    """Keep so many of the images without boxes, drawn at random, that they are at most ``limit`` of all images.

    Args:
        content: an image with ignore regions only is not without boxes: these say where objects are. One whose boxes
            training drops is.
        limit: in [0, 1); 0 drops them all.
        seed: non-negative.
    """
    kept = content.image_index[clean_content(content).is_kept]
    is_empty = np.bincount(kept, minlength=content.num_images) == 0
    empty = np.flatnonzero(is_empty)
    num_kept = int(limit / (1 - limit) * (content.num_images - len(empty)) + 1e-9)
    if num_kept >= len(empty):
        return content
    drawn = np.random.default_rng((seed, _EMPTY)).permutation(empty)[:num_kept]
    return content.select_images(np.sort(np.concatenate([np.flatnonzero(~is_empty), drawn])))


def _suggest(name: str, categories: Categories) -> str:
    by_folded = {known.casefold(): known for known in categories.names}
    similar = get_close_matches(name.casefold(), by_folded, n=1)
    return f"; did you mean {by_folded[similar[0]]!r}?" if similar else ""


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _group_of(name: str, pattern: str) -> str:
    found = re.search(pattern, name)
    matched = None if found is None else found.group(1 if found.re.groups else 0)
    return f"\0{name}" if matched is None else matched
