"""Names of classes that look like slips: two spellings of one class, a name for the background, a parent class."""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

from detector.inspect.doctor.finding import Example, Finding, listing
from detector.inspect.doctor.split import Split

BACKGROUND_NAMES: Final = frozenset({"background", "__background__", "_background_", "bg", "none"})

MAX_NAMES: Final = 20
"""An override with more names than this is no longer readable."""

MIN_LENGTH: Final = 5
"""Of shorter names one letter is too much of them to be called a slip (car, cart)."""

MIN_RATIO: Final = 0.85
"""Of difflib's similarity: one letter in seven or fewer."""

RARE: Final = 0.02
"""A name with at most this part of the boxes of a similar one is taken for a slip."""


def find_similar_names(splits: Sequence[Split]) -> list[Finding]:
    """Find names that differ by case, spaces or one letter; those of unknown classes are for the list of classes."""
    counts: dict[str, dict[str, int]] = {}
    for split in splits:
        for name, count in zip(split.content.categories.names, split.boxes_per_class.tolist(), strict=True):
            counts.setdefault(name, {})[split.name] = count
    groups = _same_but_for_form(counts)
    grouped = {name for group in groups for name in group}
    near = [pair for pair in _near_names(counts) if not grouped.issuperset(pair)]
    where = " and ".join(split.name for split in splits)
    findings = []
    for check, found, how in (
        ("respelt-classes", groups, "differ only by case, spaces or signs"),
        ("similar-class-names", near, "differ by a letter or two"),
    ):
        # A name that only one of the splits has is reported as unknown there, with what may be meant.
        shared = [names for names in found if any({*counts[a]} & {*counts[b]} for a in names for b in names if a != b)]
        if shared:
            is_slip = check == "respelt-classes" or any(_is_rare(counts, names) for names in shared)
            findings.append(
                Finding(
                    check,
                    "warning" if is_slip else "note",
                    where,
                    f"class names that {how}: {'; '.join(listing(names) for names in shared[:12])}",
                    len(shared),
                    "if they mean one class, give it one name: as two they compete for the same objects",
                    examples=tuple(
                        Example(" and ".join(f"{name!r} ({_count(counts[name])})" for name in names))
                        for names in shared[: splits[0].num_examples]
                    ),
                )
            )
    return findings


def _is_rare(counts: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> bool:
    """Whether one of the names has so few boxes beside another that it looks like a slip of the pen."""
    totals = [sum(counts[name].values()) for name in names]
    return min(totals) <= RARE * max(totals)


def find_background_classes(split: Split) -> list[Finding]:
    """Find classes that are named like the background, which needs no class here."""
    findings = []
    for label, name in enumerate(split.content.categories.names):
        if name.strip().casefold() not in BACKGROUND_NAMES:
            continue
        rows, own = (split.content.labels == label).nonzero()[0], split.content.categories.ids[label]
        findings.append(
            Finding(
                "background-class",
                "warning" if len(rows) else "note",
                split.name,
                f"class {name!r} (id {own}) has {len(rows):,} boxes; background is what no box covers and is no class "
                "of its own",
                len(rows),
                f"remove the class, or leave it out with {_other_classes(split, label)}",
                examples=split.box_examples(rows),
            )
        )
    return findings


def find_parent_class(splits: Sequence[Split]) -> list[Finding]:
    """Find the class with the id 0 that Roboflow writes in front of the real ones, without boxes."""
    first = splits[0].content.categories
    is_coco = all(split.content.format == "coco" and split.content.categories == first for split in splits)
    if not is_coco or first.ids[0] != 0 or len(first) < 2 or first.names[0].casefold() in BACKGROUND_NAMES:
        return []
    if any(split.boxes_per_class[0] for split in splits) or not splits[0].boxes_per_class.any():
        return []
    return [
        Finding(
            "parent-class",
            "note",
            " and ".join(split.name for split in splits),
            f"class {first.names[0]!r} has the id 0 and no boxes: Roboflow exports such a parent of all classes",
            1,
            f"leave it out with {_other_classes(splits[0], 0)}",
        )
    ]


def _same_but_for_form(names: Iterable[str]) -> list[list[str]]:
    """Return groups of two or more names that are the same but for case, spaces and signs between words."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_plain(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _near_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of names that differ by a letter: one too many, too few, another, or two that changed places.

    Such names are equal after one letter is taken out of one or both of them, so that hundreds of names need no
    comparison of each with each. Names that differ in digits are series (``type 1``, ``type 2``), not slips.
    """
    by_rest: dict[str, list[str]] = {}
    for name in names:
        plain = _plain(name)
        rests = {plain, *(plain[:place] + plain[place + 1 :] for place in range(len(plain)))}
        for rest in rests if len(plain) >= MIN_LENGTH else ():
            by_rest.setdefault(rest, []).append(name)
    pairs = dict.fromkeys(pair for group in by_rest.values() for pair in itertools.combinations(group, 2))
    return [
        (first, second)
        for first, second in pairs
        if re.findall(r"\d+", first) == re.findall(r"\d+", second)
        and SequenceMatcher(None, _plain(first), _plain(second)).ratio() >= MIN_RATIO
    ]


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _other_classes(split: Split, label: int) -> str:
    """Return the override that keeps all classes but one, shortened where there are many."""
    names = [name for other, name in enumerate(split.content.categories.names) if other != label]
    if len(names) > MAX_NAMES:
        return f"data.classes=[...] of the other {len(names):,} names"
    return f"'data.classes={json.dumps(names, ensure_ascii=False)}'"


def _count(boxes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} boxes in {split}" for split, count in boxes.items())
