"""The dataset doctor's report as text and as JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from detector.inspect.doctor.finding import SEVERITIES, Finding
from detector.inspect.doctor.split import Split


def format_report(splits: Sequence[Split], findings: Sequence[Finding]) -> str:
    """Return the report for a terminal: what was looked at, each finding with examples and remedy, and the sum."""
    width = max((len(split.name) for split in splits), default=0)
    lines = [f"{split.name:<{width}}  {describe_split(split)}" for split in splits]
    for finding in findings:
        lines += ["", *_finding_lines(finding)]
    return "\n".join([*lines, "", summarize(findings)])


def describe_split(split: Split) -> str:
    """Return what a split is in one line."""
    content = split.content
    num_regions = int(content.is_ignored.sum())
    regions = f", {num_regions:,} ignore regions" if num_regions else ""
    return (
        f"{content.path} ({content.format.upper()}): {content.num_images:,} images, "
        f"{content.num_boxes - num_regions:,} boxes{regions}, {len(content.categories):,} classes"
    )


def summarize(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each kind."""
    if not findings:
        return "nothing found: the dataset is as it should be"
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}" for name in SEVERITIES if counts[name]]
    return ", ".join(parts)


def as_json(splits: Sequence[Split], findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "splits": [
            {
                "name": split.name,
                "path": str(split.content.path),
                "format": split.content.format,
                "images_dir": str(split.content.images_dir),
                "num_images": split.content.num_images,
                "num_boxes": split.content.num_boxes,
                "boxes_per_class": dict(
                    zip(split.content.categories.names, split.boxes_per_class.tolist(), strict=True)
                ),
            }
            for split in splits
        ],
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity,
                "where": finding.where,
                "count": finding.count,
                "text": finding.text,
                "evidence": finding.evidence,
                "remedy": finding.remedy,
                "examples": [example.text for example in finding.examples],
            }
            for finding in findings
        ],
    }


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{finding.severity}: {finding.where}: {finding.text} [{finding.check}]"]
    lines += [f"    evidence: {finding.evidence}"] if finding.evidence else []
    lines += [f"    {example.text}" for example in finding.examples]
    rest = finding.count - len(finding.examples)
    lines += [f"    and {rest:,} more"] if rest > 0 and finding.examples else []
    lines += [f"    remedy: {finding.remedy}"] if finding.remedy else []
    return lines
