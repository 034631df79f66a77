"""Write a mended dataset as a COCO file, with a log of every change beside it."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.data.formats.content import UNKNOWN_SIZE, DatasetContent, coco_document
from detector.data.selection import number_by
from detector.errors import UserError
from detector.evaluation.json_files import read_json, write_atomically
from detector.inspect.doctor.repair import Repair
from detector.inspect.doctor.split import Split
from detector.structures import Categories

AREA_TOLERANCE: Final = 0.01
"""An annotated area this close to width * height is that of the box, not of a mask, and changes with the box."""


def fix_paths(output: Path, names: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Return where each dataset and its log are written.

    The first one goes to ``OUT.json`` and ``OUT.log``, another one to ``OUT.NAME.json`` and ``OUT.NAME.log``.

    Args:
        output: what the user gave.
        names: of the datasets.
    """
    stem = output.with_suffix("") if output.suffix.lower() == ".json" else output
    paths = {}
    for number, name in enumerate(names):
        base = stem if number == 0 else stem.with_name(f"{stem.name}.{name.replace('/', '_')}")
        paths[name] = (
            output if number == 0 else base.with_name(f"{base.name}.json"),
            base.with_name(f"{base.name}.log"),
        )
    return paths


def common_classes(splits: Sequence[Split]) -> tuple[Split, ...]:
    """Give datasets whose formats have no list of classes one list, so that ids mean the same in all files written."""
    if len(splits) < 2 or any(split.content.format in ("coco", "yolo") for split in splits):
        return tuple(splits)
    names = sorted({name for split in splits for name in split.content.categories.names})
    categories = Categories(tuple(range(1, len(names) + 1)), tuple(names))
    return tuple(replace(split, content=number_by(split.content, categories)) for split in splits)


def write_repair(repair: Repair, output: Path, log: Path) -> None:
    """Write a mended dataset and its log.

    What was read from a COCO file keeps everything that the file has besides, such as masks, licences and parents of
    classes.

    Raises:
        UserError: a file cannot be written, or the COCO file has changed since it was read.
    """
    content = repair.content
    document = _mend_document(repair) if content.format == "coco" else coco_document(_mended(repair))
    write_atomically(output, [json.dumps(document)])
    write_atomically(log, [f"{line}\n" for line in repair.log] or ["nothing to change\n"])


def _mended(repair: Repair) -> DatasetContent:
    return repair.content.select_boxes(repair.keeps_box).select_images(repair.keeps_image)


def _mend_document(repair: Repair) -> dict[str, Any]:
    """Apply a repair to the entries of the COCO file that the content was read from."""
    content = repair.content
    document = read_json(content.path)
    images, annotations = document["images"], document["annotations"]
    if len(images) != content.num_images or len(annotations) != content.num_boxes:
        raise UserError(f"{content.path}: the file has changed while it was checked; start again")
    for row in np.flatnonzero(repair.keeps_image).tolist():
        height, width = content.sizes[row].tolist()
        if UNKNOWN_SIZE not in (height, width):
            images[row].update(width=width, height=height)
    for row in np.flatnonzero(repair.is_clipped).tolist():
        _clip(annotations[row], content.boxes[row].tolist())
    for row in np.flatnonzero(repair.keeps_box & (content.annotation_ids >= 0)).tolist():
        annotations[row]["id"] = int(content.annotation_ids[row])
    document["images"] = [images[row] for row in np.flatnonzero(repair.keeps_image).tolist()]
    document["annotations"] = [annotations[row] for row in np.flatnonzero(repair.keeps_box).tolist()]
    return dict(document)


def _clip(entry: dict[str, Any], box: list[float]) -> None:
    _, _, width, height = entry["bbox"]
    area = entry.get("area")
    if isinstance(area, int | float) and math.isclose(area, width * height, rel_tol=AREA_TOLERANCE):
        entry["area"] = box[2] * box[3]
    entry["bbox"] = box
