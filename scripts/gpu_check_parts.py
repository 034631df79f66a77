"""The parts of gpu_check.py; each runs alone: ``python scripts/gpu_check_parts.py PART FOLDER [--tiny]``.

The images have COCO's size, in the shape that becomes 800 x 1333 (640 x 480, the usual one, would become 800 x 1067).
A part writes its figures to FOLDER/PART.json, or ends with another exit code than 0.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from detector.cli.main import main as detector_main
from detector.engine.checkpoint import load_checkpoint
from detector.engine.evaluate import evaluate_checkpoint

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 80
BOXES_PER_IMAGE = 7  # COCO has 7.3


@dataclass(frozen=True)
class Sizes:
    """What is run: as on COCO, or small enough for one CPU core."""

    device: str
    config: str
    num_images: int
    image_size: tuple[int, int]
    short_side: int
    padded_size: tuple[int, int]
    batch_size: int
    num_steps: int
    resume_short_side: int
    network: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        return "fp32" if self.device == "cpu" else "bf16"


FULL = Sizes("cuda", "retina_coco", 200, (384, 640), 800, (800, 1344), 16, 50, 512)
SMALL_NETWORK = ("model.fpn.channels=16", "model.head.num_convs=1", "model.anchors.sizes=[16,32,64,128,256]")
TINY = Sizes("cpu", "retina_coco_r18", 8, (72, 120), 80, (96, 160), 2, 4, 64, SMALL_NETWORK)


def part_data(work: Path, sizes: Sizes) -> dict[str, Any]:
    """Write JPEG files of noise with filled rectangles, and their boxes in COCO's format."""
    folder = work / "data"
    rng = np.random.default_rng(0)
    height, width = sizes.image_size
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, sizes.num_images + 1):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(BOXES_PER_IMAGE):
            w, h = (int(value) for value in rng.integers(8, height // 2, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            category_id = int(rng.integers(1, NUM_CLASSES + 1))
            cv2.rectangle(image, (x, y), (x + w, y + h), (category_id * 3, 255 - category_id * 3, 128), -1)
            box = {"bbox": [x, y, w, h], "area": w * h, "category_id": category_id, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **box})
        name = f"{image_id:012d}.jpg"
        cv2.imwrite(str(folder / "images" / name), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
    categories = [{"id": idx, "name": f"class {idx}"} for idx in range(1, NUM_CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return {"images": len(images), "bytes/image": sum(f.stat().st_size for f in folder.glob("images/*")) / len(images)}


def run_train(work: Path, sizes: Sizes, output: str, short_side: int, *more: str) -> None:
    """Run the train command; raises if it does not end well."""
    split = f"{{annotations: {work}/data/annotations.json, images: {work}/data/images}}"
    arguments = [
        *("train", "--config", sizes.config, f"output_dir={work}/{output}"),
        *(f"device={sizes.device}", f"precision={sizes.precision}"),
        *(f"data.train={split}", f"data.val={split}", f"data.short_side=[{short_side}]"),
        *(f"data.max_side={short_side * 5 // 3}", f"data.batch_size={sizes.batch_size}"),
        f"data.num_workers={min(12, max(1, (os.cpu_count() or 1) - 2))}",
        *("model.backbone.weights=none", "model.backbone.norm=frozen", "model.backbone.frozen_stages=2"),
        # Random convolutions without a working norm: small steps, so that nothing grows.
        *("optimizer.lr=1e-5", "eval.every=1000000", "eval.num_pictures=0", *sizes.network, *more),
    ]
    if code := detector_main(arguments):
        raise SystemExit(f"detector {' '.join(arguments)}: exit code {code}")


def part_tests(work: Path, sizes: Sizes) -> dict[str, Any]:
    files = [path for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    # Warnings do not fail here: another version of a third party is no finding about the GPU.
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["--import-mode=importlib", "-q", "-ra", "--durations=5", f"--junitxml={work}/tests.xml"]
    code = subprocess.run([*command, *map(str, files)], cwd=ROOT, check=False).returncode
    counts = dict(re.findall(r'(tests|failures|errors|skipped)="(\d+)"', (work / "tests.xml").read_text()))
    if code:
        raise SystemExit(f"pytest: exit code {code}, {counts}")
    return counts


def part_train(work: Path, sizes: Sizes) -> dict[str, Any]:
    every = max(1, sizes.num_steps // 5)
    run_train(work, sizes, "run", sizes.short_side, f"schedule.max_steps={sizes.num_steps}", f"log_every={every}")
    lines = (work / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    if any(row["loss"] is None for row in rows):
        raise SystemExit("the loss is not finite")
    settled = rows[1:]  # the first stretch starts the workers and looks for the fastest kernels
    return {
        "images/s": statistics.median(row["images_per_second"] for row in settled),
        "seconds/step": statistics.median(row["step_seconds"] for row in settled),
        "share of waiting for data": statistics.median(row["data_seconds"] / row["step_seconds"] for row in settled),
        "first loss": rows[0]["loss"],
        "last loss": rows[-1]["loss"],
        **peak_memory(sizes),
    }


def part_telemetry(work: Path, sizes: Sizes) -> dict[str, Any]:
    height, width = sizes.padded_size
    command = [sys.executable, str(ROOT / "scripts/benchmark_telemetry.py"), "--device", sizes.device]
    command += ["--batch", str(sizes.batch_size), "--size", str(height), str(width)]
    if sizes.device == "cuda":
        command += ["--cases", "r50", "--repeats", "15", "--warmup", "5"]
    else:
        command += ["--cases", "demo", "--repeats", "2", "--warmup", "1"]
    code = subprocess.run([*command, "--json", str(work / "telemetry_cost.json")], cwd=ROOT, check=False).returncode
    content = json.loads((work / "telemetry_cost.json").read_text(encoding="utf-8"))
    (figures,) = content["details"].values()
    if code and sizes.device == "cuda":  # tiny sizes on a busy CPU say nothing of the cost
        raise SystemExit(f"the telemetry costs {100 * figures['cost']:.2f} %, more than its limit")
    return {
        "cost at log_every = 20": figures["cost"],
        "bare step, seconds": figures["bare"],
        "log step, seconds": figures["log_step"],
        "copy and writing, seconds": figures["copy_and_write"],
    }


def part_evaluation(work: Path, sizes: Sizes) -> dict[str, Any]:
    overrides = (f"device={sizes.device}", f"precision={sizes.precision}", "eval.score_thresh=0.0")
    result = evaluate_checkpoint(work / "run/checkpoints/last.pt", overrides=overrides)
    return {
        "images/s, with scoring": result.num_images / result.seconds,
        "detections/image": len(result.results) / result.num_images,
        "validation loss": result.losses["loss"],
        **peak_memory(sizes),
    }


def part_resume(work: Path, sizes: Sizes) -> dict[str, Any]:
    options = ("deterministic=true", "schedule.max_steps=6", "checkpoint.every=3", "log_every=1")
    run_train(work, sizes, "whole", sizes.resume_short_side, *options)
    shutil.copytree(work / "whole", work / "parts")
    for path in (work / "parts/checkpoints").iterdir():  # as if it had been killed after step 3
        if "00000003" not in path.name:
            path.unlink()
    run_train(work, sizes, "parts", sizes.resume_short_side, *options, "--resume")
    whole, parts = (load_checkpoint(work / name / "checkpoints/last.pt") for name in ("whole", "parts"))
    for key in ("model", "optimizer"):
        torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0, msg=f"{key}: not bit-identical")
    return {"steps": whole["step"], "weights and momentum": "bit-identical"}


def peak_memory(sizes: Sizes) -> dict[str, float]:
    if sizes.device == "cpu":
        return {}
    used, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"peak memory, GiB": used / 2**30, "reserved, GiB": reserved / 2**30}


PARTS: Final[dict[str, Callable[[Path, Sizes], dict[str, Any]]]] = {
    "data": part_data,
    "tests": part_tests,
    "train": part_train,
    "telemetry": part_telemetry,
    "evaluation": part_evaluation,
    "resume": part_resume,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    figures = PARTS[args.part](args.folder, TINY if args.tiny else FULL)
    (args.folder / f"{args.part}.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
