"""What the demo set holds, counted from its annotations."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SMALL_SIDE: Final = 24
"""An object is small if the *longer* side of its box is below this many pixels (so its area is, too)."""

HIDDEN_FRACTION: Final = 0.1
"""An object is partly hidden if at least this share of its pixels is covered or cut off by the image's border."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Counts of one split. Crowd regions are not objects.

    Attributes:
        name: ``train`` or ``val``.
        num_images: images, with and without objects.
        num_empty_images: images without any annotation.
        num_objects: annotated objects.
        num_crowds: regions with ``iscrowd = 1``.
        num_per_class: objects of each class, in the order of the categories.
        num_small: objects whose box is shorter than ``SMALL_SIDE`` on both sides.
        num_hidden: objects of which at least ``HIDDEN_FRACTION`` is hidden.
    """

    name: str
    num_images: int
    num_empty_images: int
    num_objects: int
    num_crowds: int
    num_per_class: Mapping[str, int]
    num_small: int
    num_hidden: int

    @property
    def small_share(self) -> float:
        """Share of the objects that are small; 0 without objects."""
        return self.num_small / max(1, self.num_objects)

    @property
    def hidden_share(self) -> float:
        """Share of the objects that are partly hidden; 0 without objects."""
        return self.num_hidden / max(1, self.num_objects)


@dataclass(frozen=True, slots=True)
class DemoReport:
    """A demo set on disk.

    Attributes:
        output_dir: its folder.
        seed: the seed it comes from.
        was_there: True if the folder already held this very set and nothing was written.
        splits: ``train`` and ``val``.
    """

    output_dir: Path
    seed: int
    was_there: bool
    splits: tuple[SplitReport, ...]


def count_split(name: str, coco: Mapping[str, Any]) -> SplitReport:
    """Count what a split's COCO annotations hold."""
    objects = [entry for entry in coco["annotations"] if not entry["iscrowd"]]
    names = {category["id"]: category["name"] for category in coco["categories"]}
    per_class = Counter(names[entry["category_id"]] for entry in objects)
    annotated = {entry["image_id"] for entry in coco["annotations"]}
    return SplitReport(
        name=name,
        num_images=len(coco["images"]),
        num_empty_images=sum(image["id"] not in annotated for image in coco["images"]),
        num_objects=len(objects),
        num_crowds=len(coco["annotations"]) - len(objects),
        num_per_class={class_name: per_class[class_name] for class_name in names.values()},
        num_small=sum(max(entry["bbox"][2:]) < SMALL_SIDE for entry in objects),
        num_hidden=sum(entry["visible_fraction"] <= 1 - HIDDEN_FRACTION for entry in objects),
    )


def format_report(report: DemoReport) -> str:
    """Return the counts as a few lines for the console."""
    state = "already there, nothing written" if report.was_there else "written"
    lines = [f"demo set {report.output_dir} (seed {report.seed}): {state}"]
    for split in report.splits:
        classes = ", ".join(f"{name} {count}" for name, count in split.num_per_class.items())
        lines += [
            f"{split.name}: {split.num_images} images ({split.num_empty_images} without objects), "
            f"{split.num_objects} objects, {split.num_crowds} crowd regions",
            f"  longer side under {SMALL_SIDE} px: {split.small_share:.1%}; "
            f"at least {HIDDEN_FRACTION:.0%} hidden: {split.hidden_share:.1%}",
            f"  {classes}",
        ]
    return "\n".join(lines)
