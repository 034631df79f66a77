"""Classes of two splits that must be the same: unknown, missing, or with other ids."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from detector.inspect.doctor.finding import Example, Finding, listing
from detector.inspect.doctor.split import Split

LISTED: Final = ("coco", "yolo")
"""Formats with a list of classes of their own; in the others the classes are the names that occur."""


def compare_classes(train: Split, other: Split) -> list[Finding]:
    """Compare the classes of a split with those that are learnt.

    Args:
        train: the split whose classes the network has.
        other: a split to be scored on. In COCO and YOLO format its list must be that of ``train``.
    """
    ours, theirs = _boxes_of(train), _boxes_of(other)
    is_listed = other.content.format in LISTED
    unknown = [name for name, count in theirs.items() if name not in ours and (is_listed or count)]
    missing = [name for name in ours if name not in theirs]
    return [
        *_find_unknown(train, other, unknown),
        *_find_missing(train, other, missing, is_listed=is_listed),
        *(_find_shifted(train, other) if is_listed else []),
        *_find_one_sided(train, other, ours, theirs),
    ]


def _find_unknown(train: Split, other: Split, names: list[str]) -> list[Finding]:
    if not names:
        return []
    known, counts = train.content.categories.names, _boxes_of(other)
    examples = []
    for name in names[: other.num_examples]:
        label = other.content.categories.names.index(name)
        boxes = (other.content.labels == label).nonzero()[0]
        similar = _most_similar(name, known)
        question = f"; did you mean {similar!r}?" if similar else ""
        text = f"{name!r}, {counts[name]:,} boxes{question}"
        if len(boxes):
            example = other.box_example(int(boxes[0]))
            examples.append(Example(f"{text}: {example.text}", other.name, example.image, example.boxes))
        else:
            examples.append(Example(f"{text}: category id {other.content.categories.ids[label]}"))
    return [
        Finding(
            "unknown-classes",
            "error",
            _both(train, other),
            f"classes of {other.name} that {train.name} does not have: {listing(names)}",
            len(names),
            f"write the names as in {train.name}, or name the classes to use in data.classes",
            evidence=f"{train.name} has {listing(known)}",
            examples=tuple(examples),
        )
    ]


def _find_missing(train: Split, other: Split, names: list[str], *, is_listed: bool) -> list[Finding]:
    if not names:
        return []
    if is_listed:
        remedy = f"give both splits the same list of classes; {other.name} may have classes without boxes"
        consequence = "; the lists must be the same"
    else:
        remedy, consequence = "", "; they are not scored"
    return [
        Finding(
            "missing-classes",
            "error" if is_listed else "note",
            _both(train, other),
            f"classes of {train.name} that {other.name} does not have{consequence}: {listing(names)}",
            len(names),
            remedy,
        )
    ]


def _find_shifted(train: Split, other: Split) -> list[Finding]:
    ours, theirs = train.content.categories, other.content.categories
    names_here, names_there = (
        dict(zip(ours.ids, ours.names, strict=True)),
        dict(zip(theirs.ids, theirs.names, strict=True)),
    )
    id_there = {name: own for own, name in names_there.items()}
    shifted = [(name, own, id_there[name]) for own, name in names_here.items() if id_there.get(name, own) != own]
    if not shifted:
        return []
    examples = [
        Example(
            f"{name!r} has the id {own} in {train.name} and {there} in {other.name}, where {own} is "
            + (repr(names_there[own]) if own in names_there else "no class")
        )
        for name, own, there in shifted[: other.num_examples]
    ]
    return [
        Finding(
            "shifted-classes",
            "error",
            _both(train, other),
            f"classes with another id in {other.name} than in {train.name}, so that detections would be scored as "
            f"other classes: {listing(name for name, _, _ in shifted)}",
            len(shifted),
            "number the classes the same way in both files",
            examples=tuple(examples),
        )
    ]


def _find_one_sided(train: Split, other: Split, ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[Finding]:
    """Find classes of both splits that have boxes only in one of them."""
    unlearnt = [name for name, count in theirs.items() if count and ours.get(name, 1) == 0]
    unscored = [name for name, count in ours.items() if count and theirs.get(name, 1) == 0]
    findings = []
    if unlearnt:
        findings.append(
            Finding(
                "classes-never-learnt",
                "warning",
                _both(train, other),
                f"classes with boxes in {other.name} but none in {train.name}: {listing(unlearnt)}",
                len(unlearnt),
                "divide the images anew, or leave these classes out with data.classes; their AP will be 0",
            )
        )
    if unscored:
        findings.append(
            Finding(
                "classes-never-scored",
                "note",
                _both(train, other),
                f"classes with boxes in {train.name} but none in {other.name}: {listing(unscored)}",
                len(unscored),
                "the AP says nothing about them",
            )
        )
    return findings


def _most_similar(name: str, known: tuple[str, ...]) -> str | None:
    plain = {other.strip().casefold(): other for other in known}
    found = get_close_matches(name.strip().casefold(), plain, n=1)
    return plain[found[0]] if found else None


def _boxes_of(split: Split) -> dict[str, int]:
    return dict(zip(split.content.categories.names, split.boxes_per_class.tolist(), strict=True))


def _both(train: Split, other: Split) -> str:
    return f"{train.name} and {other.name}"
