"""Write a dataset in COCO format: ``annotations/instances_<split>.json`` and ``images/<split>``."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from detector.data.formats.content import DatasetContent, coco_document
from detector.data.formats.image_files import normalize


def write_coco(folder: Path, splits: Mapping[str, DatasetContent]) -> dict[str, list[str]]:
    """Write the annotations of a dataset.

    Args:
        folder: an empty folder.
        splits: what to write, by the names of the splits.

    Returns:
        Where each image of each split belongs, relative to ``folder``.
    """
    (folder / "annotations").mkdir()
    places = {}
    for split, content in splits.items():
        names = [normalize(name) for name in content.file_names]
        document = coco_document(replace(content, file_names=names))
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        places[split] = [f"images/{split}/{name}" for name in names]
    return places
