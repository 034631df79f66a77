"""Write a dataset in YOLO format: ``data.yaml``, ``images/<split>`` and ``labels/<split>``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from detector.data.formats.by_image import ImageBoxes, iterate_images
from detector.data.formats.content import DatasetContent
from detector.data.formats.image_files import normalize, stem
from detector.data.formats.yolo_layout import label_path


def write_yolo(folder: Path, splits: Mapping[str, DatasetContent]) -> dict[str, list[str]]:
    """Write the annotations of a dataset.

    Images whose names differ in the extension only would share a label file: such an image gets its extension into
    its name, as ``a_png.png``.

    Args:
        folder: an empty folder.
        splits: what to write, by the names of the splits; the sizes of all images with boxes are known. See
            :mod:`detector.data.formats.limits` for what they hold.

    Returns:
        Where each image of each split belongs, relative to ``folder``.
    """
    names = next(iter(splits.values())).categories.names
    description = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(names))}
    text = yaml.safe_dump(description, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    places = {}
    for split, content in splits.items():
        images = [f"images/{split}/{name}" for name in _names_apart(content.file_names)]
        places[split] = images
        files = [label_path(folder / image) for image in images]
        for parent in dict.fromkeys(file.parent for file in files):
            parent.mkdir(parents=True, exist_ok=True)
        for file, found, size in zip(files, iterate_images(content), content.sizes.tolist(), strict=True):
            file.write_text("".join(_lines(found, size)), encoding="utf-8")
    return places


def _names_apart(file_names: Sequence[str]) -> Iterator[str]:
    """Yield names that differ without their extensions too."""
    names = [normalize(name) for name in file_names]
    reserved = {stem(name) for name in names}
    used: set[str] = set()
    for name in names:
        own = stem(name)
        if own in used:
            suffix = name[len(own) :]
            while own in used or own in reserved:
                own = f"{own}_{suffix[1:]}"
            name = own + suffix
        used.add(own)
        yield name


def _lines(found: ImageBoxes, size: tuple[int, int]) -> Iterator[str]:
    height, width = size
    for (x, y, box_width, box_height), label in zip(found.boxes, found.labels, strict=True):
        parts = ((x + box_width / 2) / width, (y + box_height / 2) / height, box_width / width, box_height / height)
        # Nine digits: an error of 0.00001 pixels in an image of 10,000.
        yield f"{label} {' '.join(f'{part:.9g}' for part in parts)}\n"
