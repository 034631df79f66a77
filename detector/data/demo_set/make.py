"""The demo set on disk: image folders, COCO files and a manifest that says which set it is.

``annotations/{train,val}.json``, ``{train,val}/NNNNNN.jpg`` and ``demo_set.json``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from detector.data.demo_set.coco_writer import coco_annotation, coco_categories, coco_image
from detector.data.demo_set.report import DemoReport, SplitReport, count_split
from detector.data.demo_set.scenes import Scene, draw_scene
from detector.errors import UserError
from detector.structures import Size

GENERATOR_VERSION: Final = 1
"""Raised with every change that gives other pixels or annotations for the same seed."""

DEFAULT_NUM_TRAIN: Final = 800
DEFAULT_NUM_VAL: Final = 150

SPLITS: Final = ("train", "val")
MANIFEST: Final = "demo_set.json"
JPEG_QUALITY: Final = 95


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that decides a set's bytes, and whether all of them were written."""

    generator_version: int
    seed: int
    num_train: int
    num_val: int
    complete: bool

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.num_train} + {self.num_val} images, generator {self.generator_version}"


def make_demo_set(
    output_dir: Path | str,
    *,
    seed: int = 0,
    num_train: int = DEFAULT_NUM_TRAIN,
    num_val: int = DEFAULT_NUM_VAL,
    overwrite: bool = False,
) -> DemoReport:
    """Write the demo set, unless the folder holds this very set already.

    Image ``i`` of a split depends on the seed, the split and ``i`` alone: more images leave the first ones as they are,
    and the same versions of numpy and OpenCV give the same bytes. An interrupted run is started again from scratch.

    Args:
        output_dir: folder of the set; made if missing.
        seed: not negative.
        num_train: images to train on, at least 1.
        num_val: images to score, at least 1.
        overwrite: replace another demo set that the folder holds. A folder with other files is never touched.

    Returns:
        What the set holds.

    Raises:
        UserError: a number is out of range; the folder holds other files, or another demo set and not ``overwrite``; or
            it cannot be written.
    """
    output_dir = Path(output_dir)
    for name, value, lowest in (("seed", seed, 0), ("num_train", num_train, 1), ("num_val", num_val, 1)):
        if value < lowest:
            raise UserError(f"demo set: {name} = {value}, expected at least {lowest}")
    wanted = Manifest(GENERATOR_VERSION, seed, num_train, num_val, complete=True)
    try:
        found = _read_manifest(output_dir)
        if found == wanted and _has_all_files(output_dir, wanted):
            reports = tuple(count_split(split, _read_annotations(output_dir, split)) for split in SPLITS)
            return DemoReport(output_dir, seed, was_there=True, splits=reports)
        if found is not None and found.complete and found != wanted and not overwrite:
            raise UserError(
                f"{output_dir}: holds another demo set ({found}) than the one asked for ({wanted}); "
                "choose another folder, or replace it with --overwrite"
            )
        return DemoReport(output_dir, seed, was_there=False, splits=_write_set(output_dir, wanted))
    except OSError as error:
        raise UserError(
            f"{error.filename or output_dir}: {error.strerror or error}; cannot write the demo set"
        ) from error


def draw_demo_scene(seed: int, split: str, index: int) -> Scene:
    """Draw image ``index`` (from 0) of a split."""
    return draw_scene(np.random.default_rng([seed, SPLITS.index(split), index]))


def _write_set(output_dir: Path, wanted: Manifest) -> tuple[SplitReport, ...]:
    output_dir.mkdir(parents=True, exist_ok=True)
    _write_json(output_dir / MANIFEST, asdict(wanted) | {"complete": False})
    (output_dir / "annotations").mkdir(exist_ok=True)
    reports = []
    for split, num_images in zip(SPLITS, (wanted.num_train, wanted.num_val), strict=True):
        (output_dir / split).mkdir(exist_ok=True)
        for stale in (output_dir / split).glob("[0-9]" * 6 + ".jpg"):
            stale.unlink()
        coco = _write_split(output_dir / split, split, wanted.seed, num_images)
        _write_json(output_dir / "annotations" / f"{split}.json", coco)
        reports.append(count_split(split, coco))
    _write_json(output_dir / MANIFEST, asdict(wanted))
    return tuple(reports)


def _write_split(folder: Path, split: str, seed: int, num_images: int) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_images):
        scene = draw_demo_scene(seed, split, index)
        image_id, file_name = index + 1, _file_name(index)
        _write_jpeg(folder / file_name, scene)
        size: Size = (scene.image.shape[0], scene.image.shape[1])
        images.append(coco_image(image_id, file_name, size))
        for item in scene.objects:
            annotations.append(coco_annotation(len(annotations) + 1, image_id, item))
    info = {"description": f"generated demo set, {split}", "version": str(GENERATOR_VERSION), "seed": seed}
    return {"info": info, "images": images, "annotations": annotations, "categories": coco_categories()}


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _write_jpeg(path: Path, scene: Scene) -> None:
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    path.write_bytes(encoded.tobytes())


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _read_annotations(output_dir: Path, split: str) -> dict[str, Any]:
    path = output_dir / "annotations" / f"{split}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not the JSON that was written; delete {path.parent.parent / MANIFEST}") from error
    return dict(content)


def _read_manifest(output_dir: Path) -> Manifest | None:
    """Return what the folder's manifest says, or None if the folder is missing or empty."""
    path = output_dir / MANIFEST
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"{output_dir}: is a file, expected a folder for the demo set")
    if not path.exists():
        if output_dir.is_dir() and any(output_dir.iterdir()):
            raise UserError(
                f"{output_dir}: holds files that are no demo set (there is no {MANIFEST}); "
                "expected an empty or a new folder"
            )
        return None
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a demo set's manifest ({error}); choose another folder or delete the file"
        ) from error


def _has_all_files(output_dir: Path, manifest: Manifest) -> bool:
    for split, num_images in zip(SPLITS, (manifest.num_train, manifest.num_val), strict=True):
        if not (output_dir / "annotations" / f"{split}.json").is_file() or not (output_dir / split).is_dir():
            return False
        there = {entry.name for entry in (output_dir / split).iterdir()}
        if not there.issuperset(_file_name(index) for index in range(num_images)):
            return False
    return True
