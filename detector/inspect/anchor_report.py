"""The report on anchors and boxes, as text."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from detector.config.model import FINEST_LEVEL
from detector.data.annotations import AnnotationTable
from detector.evaluation.table import align_columns, printable_name
from detector.inspect.anchor_coverage import BoxGroup, Coverage, group_boxes
from detector.inspect.anchor_matching import NO_LEVEL
from detector.inspect.anchor_shapes import AnchorShapes, changed_lists, override_line, yaml_lines
from detector.inspect.anchor_suggestion import FEW_ANCHORS, LEAST_GAIN, WELL_COVERED, CoverageNumbers, Suggestion
from detector.inspect.anchor_summary import percent

IOUS: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Overlaps that the report counts boxes from."""

TRAINING_SIDES: Final = (8, 16, 32, 64, 128, 256, 512)
"""Borders in pixels between the groups by size at training."""

COCO_SIDES: Final = (32, 96)
"""Borders in original pixels between COCO's small, medium and large boxes."""

_SMALL_SIDE: Final = TRAINING_SIDES[0]
"""Boxes below the finest stride leave hardly a cell of the feature map ..."""

_MANY_SMALL: Final = 0.05
"""... and from this share of them on that is said."""

_MAX_CLASSES: Final = 20


def format_coverage(coverage: Coverage, table: AnnotationTable, shapes: AnchorShapes) -> str:
    """Lay out what the anchors are to the boxes, as a whole and by class, size and pyramid level.

    Args:
        coverage: of at least one box.
        table: the annotations that the boxes are from.
        shapes: the anchors, to be named.
    """
    matches, training = coverage.matches, coverage.training
    num_boxes, positives = len(training), matches.num_positives
    reached = ", ".join(f"{iou:g}: {percent(float(coverage.reaches(iou).mean()))}" for iou in IOUS)
    rows = [
        ("anchors", _describe_anchors(shapes)),
        ("boxes", _describe_boxes(coverage)),
        ("best IoU", f"mean {matches.best_iou.mean(dtype=np.float64):.3f}; boxes that reach {reached}"),
        ("matched", _describe_matched(coverage)),
        (
            "anchors a box",
            f"mean {positives.mean():.1f}, median {np.median(positives):g}, least {positives.min()}; "
            f"{percent(float((positives < FEW_ANCHORS).mean()))} of the boxes have fewer than {FEW_ANCHORS}",
        ),
        ("imbalance", _describe_imbalance(coverage)),
    ]
    width = max(len(name) for name, _ in rows)
    tables = (
        (_class_title(coverage), _worst_classes(coverage, table.categories.names)),
        ("by size in the image (COCO's)", _by_coco_size(coverage, table)),
        ("by size at training", _by_training_size(coverage)),
        ("by level of the best anchor", _by_level(coverage)),
    )
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    lines += [line for title, groups in tables for line in _table(title, groups, coverage.fg_iou_thresh)]
    share_small = float((training.sides < _SMALL_SIDE).sum() / num_boxes)
    if share_small >= _MANY_SMALL:
        lines += ["", f"{percent(share_small)} of the boxes are below {_SMALL_SIDE} px; a larger data.short_side helps"]
    return "\n".join(lines)


def format_suggestion(suggestion: Suggestion, current: AnchorShapes, class_names: Sequence[str]) -> str:
    """Lay out fitted anchors beside those that there are, and the lines to set them with if they are worth it."""
    before, after = suggestion.before, suggestion.after
    if not suggestion.is_worth_it:
        verdict = (
            "your anchors fit; keep them"
            if before.reached >= WELL_COVERED
            else f"no {current.num_per_cell} anchors a cell were found that fit better; keep yours"
        )
        return (
            f"{verdict}. Fitted ones cover {percent(after.reached)} of the boxes instead of {percent(before.reached)}, "
            f"over the classes {percent(after.class_mean)} instead of {percent(before.class_mean)} on average; "
            f"less than {100 * LEAST_GAIN:g} point more may be chance"
        )
    changes = changed_lists(current, suggestion.shapes)
    lines = [
        f"suggestion: {_describe_anchors(suggestion.shapes)}",
        *align_columns(_comparison(before, after, suggestion.coverage.fg_iou_thresh, class_names), left_columns=1),
        "The gain is in boxes that have fitting anchors; what AP it brings, training shows.",
        "",
        "on the command line:",
        f"  {override_line(changes)}",
        "or in the configuration file:",
        *(f"  {line}" for line in yaml_lines(changes).splitlines()),
    ]
    return "\n".join(lines)


def format_more(gains: Mapping[str, tuple[int, float]], reached: float) -> str:
    """Say what one more aspect ratio or scale would give; empty if that is too little to be worth the time."""
    texts = [
        f"with one more {name} ({num_per_cell} anchors a cell) {percent(share)}"
        for name, (num_per_cell, share) in gains.items()
        if share - reached >= LEAST_GAIN
    ]
    return f"more anchors would cover more boxes: {', '.join(texts)}" if texts else ""


def _describe_anchors(shapes: AnchorShapes) -> str:
    sizes, scales, ratios = (
        f"[{', '.join(f'{value:.4g}' for value in values)}]"
        for values in (shapes.sizes, shapes.scales, shapes.aspect_ratios)
    )
    return f"{shapes.num_per_cell} a cell: sizes {sizes}, scales {scales}, aspect ratios {ratios}"


def _describe_boxes(coverage: Coverage) -> str:
    training = coverage.training
    num_boxes, num_images = len(np.unique(training.rows)), len(np.unique(training.images))
    text = f"{num_boxes:,} objects in {num_images:,} images, resized as in training, not augmented"
    times = len(training.images) / num_images
    return f"{text}; each at {times:g} short sides" if times > 1 else text


def _describe_matched(coverage: Coverage) -> str:
    by_threshold = coverage.matches.num_by_threshold > 0
    lost = int((coverage.is_reached & ~by_threshold).sum())
    text = (
        f"{percent(float(by_threshold.mean()))} by IoU >= {coverage.fg_iou_thresh:g}, "
        f"{percent(float(coverage.is_rescued.mean()))} only by the low-quality rule, "
        f"{percent(float(coverage.is_unmatched.mean()))} without an anchor"
    )
    return text + (f"; lost all fitting anchors to overlapping boxes: {lost:,}" if lost else "")


def _describe_imbalance(coverage: Coverage) -> str:
    num_foreground = int(coverage.matches.num_positives.sum())
    if not num_foreground:
        return f"none of {coverage.num_anchors:,} anchors is foreground"
    others = (coverage.num_anchors - num_foreground) / num_foreground
    return f"foreground : other anchors = 1 : {others:,.0f} ({num_foreground:,} of {coverage.num_anchors:,})"


def _class_title(coverage: Coverage) -> str:
    num_classes = len(coverage.class_shares())
    return f"the worst {_MAX_CLASSES} of {num_classes} classes" if num_classes > _MAX_CLASSES else "by class"


def _worst_classes(coverage: Coverage, names: Sequence[str]) -> list[BoxGroup]:
    groups = group_boxes(coverage, coverage.training.labels, [printable_name(name) for name in names])
    return sorted(groups, key=lambda group: group.reached)[:_MAX_CLASSES]


def _by_coco_size(coverage: Coverage, table: AnnotationTable) -> list[BoxGroup]:
    boxes = table.boxes.numpy()[coverage.training.rows].astype(np.float64)
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return group_boxes(coverage, np.digitize(sides, COCO_SIDES), ("small", "medium", "large"))


def _by_training_size(coverage: Coverage) -> list[BoxGroup]:
    names = [f"{low}-{high} px" for low, high in zip((0, *TRAINING_SIDES), TRAINING_SIDES, strict=False)]
    names.append(f"{TRAINING_SIDES[-1]} px and more")
    return group_boxes(coverage, np.digitize(coverage.training.sides, TRAINING_SIDES), names)


def _by_level(coverage: Coverage) -> list[BoxGroup]:
    levels = coverage.matches.best_levels - NO_LEVEL
    names = ["no anchor near", *(f"P{FINEST_LEVEL + level}" for level in range(int(levels.max())))]
    return group_boxes(coverage, levels, names)


def _table(title: str, groups: Sequence[BoxGroup], fg_iou_thresh: float) -> list[str]:
    header = [title, "boxes", "mean IoU", f">= {fg_iou_thresh:g}", "low quality only", "no anchor", "anchors a box"]
    rows = [
        [
            group.name,
            f"{group.num_boxes:,}",
            f"{group.mean_iou:.3f}",
            *map(percent, (group.reached, group.rescued, group.unmatched)),
            f"{group.median_positives:g}",
        ]
        for group in groups
    ]
    return ["", *align_columns([header, *rows], left_columns=1)]


def _comparison(
    before: CoverageNumbers, after: CoverageNumbers, fg_iou_thresh: float, class_names: Sequence[str]
) -> list[list[str]]:
    """Return the rows of a table with two columns of numbers."""

    def column(numbers: CoverageNumbers) -> list[str]:
        return [
            percent(numbers.reached),
            percent(numbers.class_mean),
            f"{printable_name(class_names[numbers.worst_label])} {percent(numbers.worst_class)}",
            percent(numbers.rescued),
            percent(numbers.unmatched),
            f"{numbers.mean_iou:.3f}",
            f"{numbers.median_positives:g}",
            percent(numbers.few_positives),
        ]

    names = [
        f"boxes with an anchor of IoU >= {fg_iou_thresh:g}",
        "  mean over classes",
        "  worst class",
        "only by the low-quality rule",
        "without an anchor",
        "mean best IoU",
        "anchors a box, median",
        f"boxes with fewer than {FEW_ANCHORS} anchors",
    ]
    return [["", "now", "suggested"], *map(list, zip(names, column(before), column(after), strict=True))]
