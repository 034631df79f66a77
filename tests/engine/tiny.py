"""A dataset and a recipe that train in seconds."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.config import Config
from detector.config_io import load_config_with_origins
from detector.telemetry.input_wait import DATA_WAIT

CLASS_COLORS = {7: (220, 40, 40), 30: (40, 200, 60)}
"""Category id -> RGB; ids with a gap, so that labels and ids cannot be mixed up unnoticed."""


def make_dataset(folder: Path, num_images: int = 8, seed: int = 0) -> Path:
    """Write a COCO dataset of coloured rectangles: landscape and portrait images, the last one without objects.

    Its images lie in two folders, so that nobody takes those to learn from for those to be scored on.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for idx in range(num_images):
        height, width = (72, 96) if idx % 2 == 0 else (96, 72)
        image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
        for _ in range(0 if idx == num_images - 1 else 1 + idx % 3):
            w, h = rng.integers(20, 40, 2)
            x, y = rng.integers(0, width - w), rng.integers(0, height - h)
            category_id = int(rng.choice(list(CLASS_COLORS)))
            image[y : y + h, x : x + w] = CLASS_COLORS[category_id]
            box = [float(x), float(y), float(w), float(h)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + idx,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / "images" / f"{idx}.png"), image[..., ::-1])
        images.append({"id": 100 + idx, "file_name": f"{idx}.png", "height": height, "width": width})
    categories = [{"id": 7, "name": "red"}, {"id": 30, "name": "green"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    shutil.copytree(folder / "images", folder / "val_images")
    return folder


def write_config(folder: Path, dataset: Path) -> Path:
    """Write the recipe to ``folder`` and return its path."""
    split = f"annotations: {dataset}/annotations.json, images: {dataset}"
    path = folder / "tiny.yaml"
    path.write_text(
        f"""\
output_dir: {folder}/run
device: cpu
precision: fp32
log_every: 1
data:
  train: {{{split}/images}}
  val: {{{split}/val_images}}
  short_side: [64, 72]
  max_side: 96
  batch_size: 4
  num_workers: 0
model:
  backbone: {{name: resnet18, weights: none, norm: group}}
  fpn: {{channels: 16}}
  head: {{num_convs: 1}}
  anchors: {{sizes: [16, 32, 64, 128, 256]}}
optimizer: {{lr: 0.005}}
schedule: {{max_steps: 4, warmup_steps: 1, milestones: [3]}}
eval: {{every: 4, num_pictures: 2, loss_profile_every: 0}}
checkpoint: {{every: 2}}
""",
        encoding="utf-8",
    )
    return path


def tiny_config(folder: Path, *overrides: str) -> tuple[Config, Any]:
    """Return the recipe, and the origins of its values, on a dataset made for it in ``folder``."""
    dataset = folder / "data"
    if not dataset.exists():
        make_dataset(dataset)
    loaded = load_config_with_origins(write_config(folder, dataset), overrides)
    return loaded.config, loaded.origins


def read_rows(run_folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of ``metrics.jsonl``, of one kind if given."""
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if kind is None or row["kind"] == kind]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what no two runs share."""
    timed = {"data_seconds", "step_seconds", "images_per_second"}
    untimed = [row for row in rows if row.get("name") != DATA_WAIT]
    return [{key: value for key, value in row.items() if key not in timed} for row in untimed]
