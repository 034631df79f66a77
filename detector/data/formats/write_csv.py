"""Write a dataset in CSV format: ``<split>.csv`` and ``images/<split>``."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.data.formats.by_image import iterate_images
from detector.data.formats.content import DatasetContent
from detector.data.formats.image_files import normalize
from detector.data.formats.numbers import shortest


def write_csv(folder: Path, splits: Mapping[str, DatasetContent]) -> dict[str, list[str]]:
    """Write the annotations of a dataset, without a line of column names.

    Args:
        folder: an empty folder.
        splits: what to write, by the names of the splits; see :mod:`detector.data.formats.limits` for what they hold.

    Returns:
        Where each image of each split belongs, relative to ``folder``.
    """
    places = {}
    for split, content in splits.items():
        names = [normalize(name) for name in content.file_names]
        # Not every version of the library quotes a value for a carriage return in it.
        is_risky = any("\r" in text for text in (*names, *content.categories.names))
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, quoting=csv.QUOTE_ALL if is_risky else csv.QUOTE_MINIMAL, lineterminator="\n").writerows(
                _rows(content, names)
            )
        places[split] = [f"images/{split}/{name}" for name in names]
    return places


def _rows(content: DatasetContent, names: list[str]) -> Iterator[list[str]]:
    classes = content.categories.names
    for name, found in zip(names, iterate_images(content), strict=True):
        for (x, y, width, height), label in zip(found.boxes, found.labels, strict=True):
            yield [name, *map(shortest, (x, y, x + width, y + height)), classes[label]]
        if not found.boxes:
            yield [name, "", "", "", "", ""]
