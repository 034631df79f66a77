"""How much processor time loading an image costs: ours against torchvision's reference pipeline and one of Pillow.

All three (benchmarking/loader_pipelines.py) decode, flip half of the images, resize them to 800/1333 and put them into
batches; in one run, in turn, on the same batches of images. Counted is the processor time of all processes: that of the
workers from one moment without work to the next, and that of the process that takes the batches. torchvision's
references resize (and normalise) in the network, on floats: on a GPU, where there is one; here that counts as part of
its input. What OpenCV takes to decode and resize, with no loader around it, is the floor of such a pipeline. Without
--annotations the images are those of the generated demo set, which are small: the target is about real photos.

    python scripts/benchmark_loader.py --annotations instances.json --images photos/
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from benchmarking import Figure, describe_hardware, make_parser, print_figures, print_table, write_figures
from benchmarking.loader_pipelines import FLOOR, MAX_SIDE, PIPELINES, SHORT_SIDE, one_thread
from benchmarking.timing import spread_of

from detector.config import DataConfig, SplitConfig
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.data.demo_set import make_demo_set
from detector.data.loader import build_train_loader
from detector.data.stages import StageSeconds
from detector.data.transforms import build_transforms

IDLE_SECONDS = 0.05
"""Workers that have used no processor time for so long have made all batches that they were asked for."""


def worker_seconds() -> float:
    """Return the processor seconds of all child processes (Linux), when they have nothing left to do."""
    files = [Path(f"/proc/{child.pid}/schedstat") for child in multiprocessing.active_children()]
    used = -1
    while (now := sum(int(file.read_text().split()[0]) for file in files)) != used:
        used = now
        time.sleep(IDLE_SECONDS)
    return used / 1e9


def measure(data: DataConfig, dataset: DetectionDataset, *, rounds: int, warmup: int) -> dict[str, list[float]]:
    """Return the processor seconds per image of each pipeline in each round of 128 images or more."""
    per_round = _batches_per_round(data)
    seconds: dict[str, list[float]] = {name: [] for name in PIPELINES}
    for name, pipeline in PIPELINES.items():  # one after the other: idle workers of others would count as children
        batches = pipeline(data, dataset)
        next(batches)
        for round_idx in range(warmup + rounds):
            start_workers, start = worker_seconds(), time.process_time()
            for _ in islice(batches, per_round):
                pass
            used = time.process_time() - start
            used += worker_seconds() - start_workers
            if round_idx >= warmup:
                seconds[name].append(used / (per_round * data.batch_size))
        del batches
    return seconds


def measure_stages(data: DataConfig, dataset: DetectionDataset, *, rounds: int) -> StageSeconds:
    """Return the seconds an image that our workers spend in each stage, by the clock: alone on a machine."""
    loader = build_train_loader(data, dataset, build_transforms(data.augment), seed=0)
    batches, num_batches = iter(loader), rounds * _batches_per_round(data)
    next(batches)
    loader.take_seconds()
    for _ in islice(batches, num_batches):
        pass
    return StageSeconds(*(total / (num_batches * data.batch_size) for total in loader.take_seconds()))


def _batches_per_round(data: DataConfig) -> int:
    return max(1, -(-128 // data.batch_size))


def report(seconds: dict[str, list[float]]) -> list[Figure]:
    """Print the pipelines side by side and return the figures."""
    best = {name: min(values) for name, values in seconds.items()}
    rows = []
    for name, values in seconds.items():
        spread = spread_of(values)
        rows.append(
            {
                "what": name,
                "cpu ms an image": f"{1e3 * spread.median:.2f}",
                "quartiles": f"{1e3 * spread.low:.2f} – {1e3 * spread.high:.2f}",
                "min ms": f"{1e3 * spread.minimum:.2f}",
                "images per cpu second": f"{1 / spread.median:.0f}",
                "× ours": f"{spread.median / spread_of(seconds['ours']).median:.2f}",
            }
        )
    print_table(rows)
    ours_spread = spread_of(seconds["ours"])
    figures = [
        Figure(
            "loader.images_per_cpu_second",
            1 / ours_spread.median,
            1 / ours_spread.high,
            1 / ours_spread.low,
            note=f"{1 / best['ours']:.0f} in the best round",
        )
    ]
    for name in ("torchvision", "Pillow"):
        ratio = spread_of(seconds[name]).median / ours_spread.median
        figures.append(Figure(f"loader.speedup.{name.lower()}", ratio, unit="x"))
    figures.append(Figure("loader.over_floor", ours_spread.median / spread_of(seconds[FLOOR]).median, unit="x"))
    return figures


def make_demo(folder: Path) -> tuple[Path, Path]:
    """Generate the images of the demo set; return the annotation file and the image folder."""
    make_demo_set(folder, num_train=64, num_val=1)
    return folder / "annotations" / "train.json", folder / "train"


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = make_parser(__doc__, repeats=5, warmup=1)
    parser.add_argument("--annotations", type=Path, help="COCO file; without it the demo set")
    parser.add_argument("--images", type=Path, help="folder of its images")
    parser.add_argument("--workers", type=int, default=1, help="loader processes; 0: none (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    if (args.annotations is None) != (args.images is None):
        parser.error("--annotations and --images go together")
    return args


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    one_thread()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    hardware = describe_hardware(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = args.annotations, args.images
        if annotations is None:
            annotations, images = make_demo(Path(folder))
        split = SplitConfig(annotations=str(annotations), images=str(images))
        data = DataConfig(
            train=split,
            val=split,
            short_side=(SHORT_SIDE,),
            max_side=MAX_SIDE,
            batch_size=args.batch_size,
            num_workers=args.workers,
        )
        dataset = open_coco_dataset(annotations, images)
        seconds = measure(data, dataset, rounds=args.repeats, warmup=args.warmup)
        stages = measure_stages(data, dataset, rounds=args.repeats)
    print(f"{hardware}\n{len(dataset)} images, {args.workers} worker(s), batches of {args.batch_size}")
    figures = report(seconds)
    print("ours by the clock, ms an image:", ", ".join(f"{k} {1e3 * v:.2f}" for k, v in stages._asdict().items()))
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details=seconds)


if __name__ == "__main__":
    main()
