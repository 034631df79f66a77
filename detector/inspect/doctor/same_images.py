"""Images that occur twice, within a split or in two splits: by the bytes of their files, or else by their paths."""

import itertools
from collections.abc import Sequence

import numpy as np

from detector.inspect.doctor.finding import Example, Finding, share
from detector.inspect.doctor.split import Split


def find_same_images(splits: Sequence[Split]) -> list[Finding]:
    """Find images of one split that are in another one too: what is learnt by heart there scores well here."""
    findings = []
    for first, second in itertools.combinations(splits, 2):
        keys = _keys(first), _keys(second)
        row_of = {key: row for row, key in enumerate(keys[0]) if key}
        pairs = [(row_of[key], row) for row, key in enumerate(keys[1]) if key in row_of]
        if pairs:
            findings.append(
                Finding(
                    "images-in-both-splits",
                    "warning",
                    f"{first.name} and {second.name}",
                    f"{share(len(pairs), second.content.num_images, 'images')} of {second.name} in {first.name} "
                    "too: the score will be better than the detector",
                    len(pairs),
                    f"take them out of {first.name} or {second.name}",
                    evidence=_evidence(first),
                    examples=tuple(
                        Example(
                            f"{second.content.describe_image(row)} of {second.name} is "
                            f"{first.content.describe_image(twin)} of {first.name}",
                            second.name,
                            row,
                        )
                        for twin, row in pairs[: second.num_examples]
                    ),
                )
            )
    return findings


def find_duplicate_images(split: Split) -> list[Finding]:
    """Find files of a split with the same bytes as another one's; files named twice are another finding."""
    if split.facts is None:
        return []
    row_of: dict[str, int] = {}
    twins: dict[int, int] = {}
    names = split.content.file_names
    for row, key in enumerate(_keys(split)):
        if key and names[first := row_of.setdefault(key, row)] != names[row]:
            twins[row] = first
    if not twins:
        return []
    return [
        Finding(
            "duplicate-images",
            "warning",
            split.name,
            f"{share(len(twins), split.content.num_images, 'images')} with the same bytes as an earlier one",
            len(twins),
            "keep one of each; where their boxes differ they contradict each other",
            evidence=_evidence(split),
            examples=split.image_examples(
                np.array(sorted(twins)), lambda row: f"the same as {split.content.describe_image(twins[row])}"
            ),
        )
    ]


def _keys(split: Split) -> list[str]:
    """Return for each image what makes it the same as another: its bytes where they were read, else its path."""
    if split.facts is not None and any(facts.digest for facts in split.facts):
        return [facts.digest for facts in split.facts]
    folder = f"{split.content.images_dir}/"
    return [folder + name for name in split.content.file_names]


def _evidence(split: Split) -> str:
    is_read = split.facts is not None and any(facts.digest for facts in split.facts)
    return "by a hash of the files' bytes" if is_read else "by their paths; the files were not read"
