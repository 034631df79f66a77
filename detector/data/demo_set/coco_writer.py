"""Scenes as COCO annotations."""

from typing import Any

import numpy as np
import numpy.typing as npt

from detector.data.demo_set.scenes import CLASS_NAMES, SceneObject
from detector.structures import Size


def coco_categories() -> list[dict[str, Any]]:
    """Return the ``categories`` list; ids start at 1."""
    return [{"id": index, "name": name, "supercategory": "shape"} for index, name in enumerate(CLASS_NAMES, start=1)]


def coco_image(image_id: int, file_name: str, size: Size) -> dict[str, Any]:
    """Return the entry of one image; ``size`` is (height, width)."""
    return {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}


def coco_annotation(annotation_id: int, image_id: int, item: SceneObject) -> dict[str, Any]:
    """Return the entry of one object or crowd.

    ``bbox`` ([x, y, width, height]), ``area`` and ``segmentation`` describe the *visible* pixels, as in COCO. One key
    is not COCO's: ``visible_fraction``, the share of the object's pixels that nothing hides and no border cuts off.

    Args:
        annotation_id: unique in the file.
        image_id: the image it belongs to.
        item: what is annotated; at least one pixel is visible.
    """
    columns = np.flatnonzero(item.visible.any(axis=0))
    rows = np.flatnonzero(item.visible.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    area = int(item.visible.sum())
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": item.class_index + 1,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": area,
        "iscrowd": int(item.is_crowd),
        "visible_fraction": round(area / item.full_area, 4),
        "segmentation": {"size": list(item.visible.shape), "counts": run_lengths(item.visible)},
    }


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run-length code: lengths of 0s, 1s, 0s, ... column by column, 0s first."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    return [0, *counts] if pixels[0] else list(counts)
