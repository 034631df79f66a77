"""How long a COCO-sized dataset takes to open, and what each loader process pays for it in memory.

It makes an annotation file of COCO train2017's size (118k images, 860k boxes, with polygons) and as many empty image
files in a temporary folder, opens the dataset, looks for all files, and then measures the private memory (USS) of
loader processes that have walked through all annotations, beside those of an empty dataset.

    python scripts/benchmark_startup.py [--images 118287] [--boxes 860001] [--json PATH]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import Figure, describe_hardware, write_figures
from torch.utils.data import DataLoader, Dataset

from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.inspect.startup import check_files_present

MAX_SECONDS = 30.0
MAX_EXTRA_MEGABYTES = 50.0
NUM_CATEGORIES = 80
NUM_WORKERS = 2
START_METHODS = ("fork", "forkserver", "spawn")


class MemoryProbe(Dataset[Any]):
    """Walks through annotations in a loader process, then reports that process's private memory in bytes."""

    def __init__(self, dataset: DetectionDataset | None) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return NUM_WORKERS

    def __getitem__(self, index: int) -> tuple[int, int]:
        num_boxes = 0
        if self.dataset is not None:
            table = self.dataset.table
            for row in range(len(self.dataset)):  # all that reading a sample touches, but the pixels
                start, end = table.box_offsets[row : row + 2].tolist()
                num_boxes += len(table.boxes[start:end].numpy().copy())
                table.labels[start:end].numpy().copy()
                table.ignore[start:end].numpy().copy()
                table.sizes[row].tolist()
                int(table.image_ids[row])
                self.dataset.image_path(row)
        return private_bytes(), num_boxes


def private_bytes() -> int:
    """Return the memory that this process shares with no other, in bytes (Linux)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def annotation_lines(num_images: int, num_boxes: int) -> Iterator[str]:
    """Yield the text of a COCO file in pieces."""
    rng = np.random.default_rng(0)
    names = [f"{number:012d}.jpg" for number in range(num_images)]
    images = ({"id": i * 5, "file_name": name, "width": 640, "height": 480} for i, name in enumerate(names))
    yield '{"images": [' + ", ".join(map(json.dumps, images)) + "],\n"
    categories = [{"id": i + 1, "name": f"class {i}", "supercategory": "thing"} for i in range(NUM_CATEGORIES)]
    yield f'"categories": {json.dumps(categories)},\n"annotations": ['
    owners = rng.integers(0, num_images, num_boxes) * 5
    labels = rng.integers(1, NUM_CATEGORIES + 1, num_boxes)
    boxes = (rng.random((num_boxes, 4)) * (500, 380, 130, 90) + (0, 0, 1, 1)).round(2)
    # 350 characters are the mean length of a polygon in COCO train2017.
    polygon = json.dumps([(rng.random(52) * 400).round(2).tolist()])
    rows = zip(owners.tolist(), labels.tolist(), boxes.tolist(), strict=True)
    for number, (image_id, category_id, (x, y, w, h)) in enumerate(rows):
        yield (
            f'{", " if number else ""}{{"segmentation": {polygon}, "area": {w * h:.2f}, "iscrowd": 0, "image_id": '
            f'{image_id}, "bbox": [{x}, {y}, {w}, {h}], "category_id": {category_id}, "id": {number}}}'
        )
    yield "]}\n"


def make_dataset(folder: Path, num_images: int, num_boxes: int) -> tuple[Path, Path]:
    """Write the annotation file and empty image files; return the file and the image folder."""
    annotations, images = folder / "annotations.json", folder / "images"
    with annotations.open("w") as file:
        file.writelines(annotation_lines(num_images, num_boxes))
    images.mkdir()
    for number in range(num_images):
        (images / f"{number:012d}.jpg").touch()
    return annotations, images


def worker_megabytes(dataset: DetectionDataset | None, start_method: str) -> float:
    """Return the private memory of the worst loader process in MB (1e6 bytes)."""
    loader = DataLoader(
        MemoryProbe(dataset), batch_size=None, num_workers=NUM_WORKERS, multiprocessing_context=start_method
    )
    return float(max(num_bytes for num_bytes, _ in loader)) / 1e6


def measure(num_images: int, num_boxes: int) -> dict[str, Any]:
    """Run the benchmark and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = make_dataset(Path(folder), num_images, num_boxes)
        file_megabytes = annotations.stat().st_size / 1e6
        start = time.perf_counter()
        dataset = open_coco_dataset(annotations, images)
        opened = time.perf_counter()
        check_files_present(dataset)
        ready = time.perf_counter()
    memory = {}
    for method in START_METHODS:
        full = worker_megabytes(dataset, method)  # first, so that what only a first start costs counts against it
        empty = worker_megabytes(None, method)
        memory[method] = {"empty_mb": empty, "extra_mb": full - empty}
    return {
        "images": num_images,
        "boxes": num_boxes,
        "file_mb": file_megabytes,
        "open_seconds": opened - start,
        "files_present_seconds": ready - opened,
        "ready_seconds": ready - start,
        "workers": memory,
    }


def format_figures(figures: dict[str, Any]) -> str:
    """Return the figures as lines, each beside its limit."""
    lines = [
        f"{figures['images']} images, {figures['boxes']} boxes, {figures['file_mb']:.0f} MB of JSON",
        f"ready in {figures['ready_seconds']:.1f} s (limit {MAX_SECONDS:.0f} s): reading "
        f"{figures['open_seconds']:.1f} s, looking for the image files {figures['files_present_seconds']:.1f} s",
    ]
    lines += [
        f"{method}: a loader process has {worker['extra_mb']:.1f} MB of private memory more than with an empty dataset "
        f"({worker['empty_mb']:.1f} MB) (limit {MAX_EXTRA_MEGABYTES:.0f} MB)"
        for method, worker in figures["workers"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the figures; return 0 if they keep the limits, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_287, help="images of the generated file")
    parser.add_argument("--boxes", type=int, default=860_001, help="boxes of the generated file")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    arguments = parser.parse_args()
    hardware = describe_hardware(torch.device("cpu"))
    figures = measure(arguments.images, arguments.boxes)
    print(f"{hardware}\n{format_figures(figures)}")
    if arguments.json:
        ready = Figure("startup.ready_seconds", figures["ready_seconds"], unit="s")
        extra = [
            Figure(f"startup.worker_megabytes.{method}", worker["extra_mb"], unit="MB")
            for method, worker in figures["workers"].items()
        ]
        write_figures(arguments.json, [ready, *extra], hardware, details=figures)
    is_within = figures["ready_seconds"] <= MAX_SECONDS and all(
        worker["extra_mb"] <= MAX_EXTRA_MEGABYTES for worker in figures["workers"].values()
    )
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
