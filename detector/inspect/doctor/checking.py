"""All checks of the splits of a dataset, in the order of the report."""

from collections.abc import Sequence

from detector.inspect.doctor.box_extent import (
    find_ignore_regions,
    find_small_boxes,
    find_thin_boxes,
    find_whole_image_boxes,
)
from detector.inspect.doctor.box_flaws import (
    find_degenerate_boxes,
    find_leaving_boxes,
    find_non_finite_boxes,
    find_outside_boxes,
)
from detector.inspect.doctor.box_pairs import find_coinciding_boxes
from detector.inspect.doctor.box_reading import find_other_reading
from detector.inspect.doctor.class_balance import find_classes_without_boxes, find_imbalance
from detector.inspect.doctor.class_lists import compare_classes
from detector.inspect.doctor.class_names import find_background_classes, find_parent_class, find_similar_names
from detector.inspect.doctor.file_checks import find_missing_images, find_other_sizes, find_unreadable_images
from detector.inspect.doctor.file_formats import find_turned_images, find_unnamed_images, find_wrong_suffixes
from detector.inspect.doctor.finding import Finding, sort_findings
from detector.inspect.doctor.image_checks import (
    find_bad_annotation_ids,
    find_empty_images,
    find_files_named_twice,
    find_odd_sizes,
)
from detector.inspect.doctor.same_images import find_duplicate_images, find_same_images
from detector.inspect.doctor.split import Split


def check_splits(splits: Sequence[Split], *, short_side: int, max_side: int) -> tuple[Finding, ...]:
    """Check the splits of a dataset, each on its own and all together.

    Image files are checked as far as the splits know facts of them; without facts nothing is read from a disk.

    Args:
        splits: at least one; the first is the one that is learnt from.
        short_side: the largest short side that training resizes images to, in pixels.
        max_side: limit of their longer side in pixels.

    Returns:
        What was found, errors first.
    """
    train, *others = splits
    findings: list[Finding] = []
    for split in splits:
        findings += _check_files(split) if split.facts is not None else []
        findings += _check_boxes(split, short_side, max_side)
        findings += [*find_empty_images(split), *find_odd_sizes(split), *find_files_named_twice(split)]
        findings += [*find_duplicate_images(split), *find_bad_annotation_ids(split)]
    if any(split.facts is not None for split in splits):
        findings += find_unnamed_images(splits)
    for other in others:
        findings += compare_classes(train, other)
    parent = find_parent_class(splits)
    findings += [*find_similar_names(splits), *find_background_classes(train), *parent]
    findings += [*find_classes_without_boxes(train, is_parent_known=bool(parent)), *find_imbalance(train)]
    findings += find_same_images(splits)
    return sort_findings(findings)


def _check_files(split: Split) -> list[Finding]:
    return [
        *find_missing_images(split),
        *find_unreadable_images(split),
        *find_other_sizes(split),
        *find_turned_images(split),
        *find_wrong_suffixes(split),
    ]


def _check_boxes(split: Split, short_side: int, max_side: int) -> list[Finding]:
    """Check boxes; where they are mixed up as a whole, all else that could be said of them would only follow."""
    return find_other_reading(split) or [
        *find_non_finite_boxes(split),
        *find_degenerate_boxes(split),
        *find_outside_boxes(split),
        *find_leaving_boxes(split),
        *find_coinciding_boxes(split),
        *find_small_boxes(split, short_side, max_side),
        *find_whole_image_boxes(split),
        *find_thin_boxes(split),
        *find_ignore_regions(split),
    ]
