"""A split of a COCO dataset, found in its folder.

For a split, in this order, ``instances_<split>.json`` and others that begin so (COCO's own is ``train2017``),
``<split>.json``, both also in ``annotations``; ``_annotations.coco.json`` in the folder ``<split>`` (Roboflow), or the
only JSON file there.
"""

import glob
from dataclasses import replace
from pathlib import Path
from typing import Final

from detector.data.formats.coco import read_coco_json
from detector.data.formats.content import DatasetContent
from detector.data.formats.image_files import describe_folder
from detector.data.formats.images_dir import find_images_dir
from detector.errors import UserError

_PATTERNS: Final = (
    "annotations/instances_{}.json",
    "instances_{}.json",
    "annotations/{}.json",
    "{}.json",
    "{}/_annotations.coco.json",
    "annotations/instances_{}*.json",
    "instances_{}*.json",
    "annotations/{}*.json",
    "{}*.json",
    "{}/*.json",
)
_ALL: Final = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
_OTHER_TASKS: Final = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")


def find_jsons(path: Path, split: str | None = None) -> list[Path]:
    """Return the annotation files that may be meant by a path and a split; one, if all is well.

    Args:
        path: a file, which is the answer, or a folder.
        split: name of the split; None = any.
    """
    if path.is_file():
        return [path]
    if split is None:
        return sorted(file for pattern in _ALL for file in path.glob(pattern) if _may_be_meant(file))
    for pattern in _PATTERNS:
        files = sorted(file for file in path.glob(pattern.format(glob.escape(split))) if _may_be_meant(file))
        if files:
            return files
    return []


def find_json(path: Path, split: str | None) -> Path:
    """Return the annotation file of a split.

    Args:
        path: the file itself, or a folder.
        split: name of the split; None = the only one.

    Raises:
        UserError: there is none, or several may be meant.
    """
    files = find_jsons(path, split)
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.relative_to(path).as_posix() for file in files)
        raise UserError(
            f"{path}: which annotation file is meant? There are {names}; choose one with split, as in "
            "data.train.split=train, or with path"
        )
    looked = ", ".join(_ALL if split is None else (pattern.format(split) for pattern in _PATTERNS))
    raise UserError(f"{path}: no annotation file: looked for {looked}; the folder {describe_folder(path)}")


def _may_be_meant(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", *_OTHER_TASKS))


def read_coco(path: Path, split: str | None = None, images_dir: Path | None = None) -> DatasetContent:
    """Read a split of a dataset in COCO format.

    Args:
        path: folder of the dataset, or an annotation file.
        split: its name; None = the only one.
        images_dir: folder of the images; None = found by looking, see
            :func:`detector.data.formats.images_dir.find_images_dir`.

    Raises:
        UserError: the annotation file or the images are not found, or as
            :func:`~detector.data.formats.coco.read_coco_json`.
    """
    file = find_json(path, split)
    content = read_coco_json(file, images_dir)
    if images_dir is not None:
        return content
    return replace(content, images_dir=find_images_dir(content, file.stem.removeprefix("instances_"), split))
