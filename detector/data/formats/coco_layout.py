"""A split of a COCO dataset, found in its folder.

For a split, in this order, ``instances_<split>.json`` and ``<split>.json``, both also in ``annotations``;
``_annotations.coco.json`` in the folder ``<split>`` (Roboflow); the first two with a year or version behind the name
(COCO's own is ``train2017``; ``trainval`` and ``test-dev`` are other splits); or the only JSON file in the folder.
"""

import glob
import re
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
_VERSION: Final = re.compile("[_.-]?v?[0-9][0-9_.-]*")
"""What "*" stands for behind the name of a split, as in train2017 and train_v2."""

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
        files = path.glob(pattern.format(glob.escape(split)))
        if found := sorted(file for file in files if _may_be_meant(file) and _is_of(file, pattern.format(split))):
            return found
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
    looked = ", ".join(_ALL if split is None else (_explain(pattern).format(split) for pattern in _PATTERNS))
    raise UserError(f"{path}: no annotation file: looked for {looked}; the folder {describe_folder(path)}")


def _may_be_meant(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", *_OTHER_TASKS))


def _is_of(file: Path, pattern: str) -> bool:
    """Whether a file that a pattern found is of its split, not of another one whose name only begins so."""
    before, star, after = Path(pattern).name.rpartition("*")
    is_exact = not (star and before)
    return is_exact or _VERSION.fullmatch(file.name.removeprefix(before).removesuffix(after)) is not None


def _explain(pattern: str) -> str:
    return pattern.replace("{}*", "{}<number>")


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
