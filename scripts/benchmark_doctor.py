"""How long the dataset doctor takes for the annotations of a COCO-sized dataset, images unread.

It makes an annotation file of COCO train2017's size (118k images, 860k boxes, with polygons) in a temporary folder and
checks it twice over: as ``check-dataset --quick`` does (reading included), and as every start of a run does.

    python scripts/benchmark_doctor.py [--images 118287] [--boxes 860001] [--json PATH]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmark_startup import annotation_lines
from benchmarking import Figure, describe_hardware, write_figures

from detector.data.formats.coco import read_coco_json
from detector.inspect.doctor import Split, check_splits, start_up_findings

MAX_SECONDS = 60.0
MAX_START_UP_SECONDS = 2.0
SIZES = {"short_side": 800, "max_side": 1333}


def measure(num_images: int, num_boxes: int) -> dict[str, Any]:
    """Run the benchmark and return its figures; validation images are a twentieth of the others, as in COCO."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "train.json", Path(folder) / "val.json"
        for path, divisor in zip(paths, (1, 20), strict=True):
            with path.open("w") as file:
                file.writelines(annotation_lines(num_images // divisor, num_boxes // divisor))
        start, start_cpu = time.perf_counter(), time.process_time()
        train, val = (read_coco_json(path, Path(folder) / path.stem) for path in paths)
        read = time.perf_counter()
    findings = check_splits([Split("train", train), Split("val", val, is_scored=True)], **SIZES)
    checked, checked_cpu = time.perf_counter(), time.process_time()
    start_up_findings(train, val, **SIZES)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    return {
        "images": num_images,
        "boxes": num_boxes,
        "read_seconds": read - start,
        "check_seconds": checked - read,
        "total_seconds": checked - start,
        "total_cpu_seconds": checked_cpu - start_cpu,
        "start_up_seconds": ended - checked,
        "start_up_cpu_seconds": ended_cpu - checked_cpu,
        "findings": len(findings),
    }


def format_figures(figures: dict[str, Any]) -> str:
    """Return the figures as lines, each beside its limit."""
    return (
        f"{figures['images']} images, {figures['boxes']} boxes and a twentieth of both to be scored on\n"
        f"checked in {figures['total_seconds']:.1f} s (limit {MAX_SECONDS:.0f} s): reading "
        f"{figures['read_seconds']:.1f} s, {figures['findings']} findings in {figures['check_seconds']:.1f} s; "
        f"{figures['total_cpu_seconds']:.1f} s of the processor\n"
        f"the start of a run takes {figures['start_up_seconds']:.1f} s of it (limit {MAX_START_UP_SECONDS:.0f} s); "
        f"{figures['start_up_cpu_seconds']:.1f} s of the processor"
    )


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
        seconds = [Figure(f"doctor.{key}", figures[key], unit="s") for key in ("total_seconds", "start_up_seconds")]
        write_figures(arguments.json, seconds, hardware, details=figures)
    is_within = figures["total_seconds"] <= MAX_SECONDS and figures["start_up_seconds"] <= MAX_START_UP_SECONDS
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
