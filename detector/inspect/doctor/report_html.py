"""The dataset doctor's report as one page that needs no other file: pictures and figures are part of it."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import jinja2
import numpy as np

from detector.drawing.dataset_plots import BoxShapes, plot_box_shapes
from detector.drawing.plots import render
from detector.inspect.doctor.box_extent import FINEST_STRIDE, training_scales
from detector.inspect.doctor.example_pictures import draw_example
from detector.inspect.doctor.finding import SEVERITIES, Example, Finding
from detector.inspect.doctor.report_text import summarize
from detector.inspect.doctor.split import Split

MAX_PICTURES: Final = 12
"""Pictures of one finding: the page stays small enough to be sent, whatever number of examples was asked for."""

MAX_CLASSES: Final = 40
"""Classes that are shown at once; more of them unfold."""


def format_page(splits: Sequence[Split], findings: Sequence[Finding], *, short_side: int, max_side: int) -> str:
    """Return the report as HTML. All text is escaped, whatever files and classes are called.

    Args:
        splits: what was checked.
        findings: what was found.
        short_side: the largest short side that training resizes images to, in pixels.
        max_side: limit of their longer side in pixels.
    """
    by_name = {split.name: split for split in splits}
    counts = Counter(finding.severity for finding in findings)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("page.html.j2").render(
        summary=summarize(findings),
        scale=f"Training pixels: a short side of {short_side} and a long side of at most {max_side}.",
        counts=[(severity, counts[severity]) for severity in SEVERITIES],
        splits=[_describe(split) for split in splits],
        findings=[_show(finding, by_name) for finding in findings],
        figure=_draw_figure(splits, short_side, max_side),
        class_tables=_class_tables(splits),
    )


def _describe(split: Split) -> dict[str, Any]:
    content = split.content
    return {
        "name": split.name,
        "path": str(content.path),
        "format": content.format.upper(),
        "num_images": content.num_images,
        "num_boxes": content.num_boxes,
        "num_classes": len(content.categories),
    }


def _show(finding: Finding, splits: dict[str, Split]) -> dict[str, Any]:
    """Return a finding with those examples as pictures that can be drawn, and the others as lines."""
    pictures: list[dict[str, str]] = []
    lines: list[str] = []
    for example in finding.examples:
        data = _picture_of(example, splits) if len(pictures) < MAX_PICTURES else None
        if data is None:
            lines.append(example.text)
        else:
            pictures.append({"data": base64.b64encode(data).decode("ascii"), "text": example.text})
    texts = {name: getattr(finding, name) for name in ("check", "severity", "where", "text", "evidence", "remedy")}
    num_more = finding.count - len(finding.examples) if finding.examples else 0
    return {**texts, "pictures": pictures, "lines": lines, "num_more": num_more}


def _picture_of(example: Example, splits: dict[str, Split]) -> bytes | None:
    return draw_example(splits[example.split], example) if example.split in splits else None


def _draw_figure(splits: Sequence[Split], short_side: int, max_side: int) -> str:
    shapes = [_shapes_of(split, short_side, max_side) for split in splits]
    if not any(len(shape.sides) for shape in shapes):
        return ""
    pixels = render(plot_box_shapes(shapes, finest_stride=FINEST_STRIDE))
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return base64.b64encode(data.tobytes()).decode("ascii")


def _shapes_of(split: Split, short_side: int, max_side: int) -> BoxShapes:
    content, cleaned = split.content, split.cleaned
    scales = training_scales(split, short_side, max_side)[content.image_index]
    is_shown = cleaned.is_kept & ~content.is_ignored & np.isfinite(scales)
    width, height = (cleaned.corners[:, 2:] - cleaned.corners[:, :2])[is_shown].T
    return BoxShapes(
        name=split.name,
        sides=np.sqrt(width * height) * scales[is_shown],
        ratios=height / width,
        per_image=content.boxes_per_image().astype(np.float64),
    )


def _class_tables(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """Return the classes of all splits, those with the most boxes first, in one table or two."""
    counts = [
        dict(zip(split.content.categories.names, split.boxes_per_class.tolist(), strict=True)) for split in splits
    ]
    ids: dict[str, int] = {}
    for split in splits:
        for own, name in zip(split.content.categories.ids, split.content.categories.names, strict=True):
            ids.setdefault(name, own)
    most = [max(1, *boxes.values()) for boxes in counts]
    names = sorted(ids, key=lambda name: [-boxes.get(name, 0) for boxes in counts])
    rows = [
        {
            "name": name,
            "id": ids[name],
            "cells": [
                {"count": boxes.get(name), "percent": 100 * boxes.get(name, 0) / top}
                for boxes, top in zip(counts, most, strict=True)
            ],
        }
        for name in names
    ]
    tables = [{"rows": rows[:MAX_CLASSES], "is_rest": False}]
    return [*tables, {"rows": rows[MAX_CLASSES:], "is_rest": True}] if len(rows) > MAX_CLASSES else tables
