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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from benchmarking import Figure, describe_hardware, make_parser, print_figures, print_table, write_figures
from benchmarking.loader_pipelines import FLOOR, MAX_SIDE, PIPELINES, SHORT_SIDE, Pipeline, one_thread
from benchmarking.timing import spread_of

from detector.config import DataConfig, SplitConfig
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.data.demo_set import make_demo_set
from detector.data.loader import build_train_loader
from detector.data.stages import StageSeconds
from detector.data.transforms import build_transforms

IDLE_SECONDS = 0.05
"""Workers that have used no processor time for so long have made all batches that they were asked for."""


@dataclass
class Running:
    """A pipeline that loads, and what it has cost.

    Attributes:
        batches: of the pipeline, without end.
        workers: numbers of its processes.
        seconds: processor seconds an image of the rounds that count.
    """

    batches: Iterator[object]
    workers: tuple[int, ...]
    seconds: list[float] = field(default_factory=list)

    @property
    def peak_bytes(self) -> int:
        """The most memory that each process has had, added up (Linux); with what it shares with others."""
        lines = [line for pid in self.workers for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def load(self, num_batches: int) -> float:
        """Take batches and return the processor seconds, of this process and of the workers."""
        start_workers, start = cpu_seconds(self.workers), time.process_time()
        for _ in islice(self.batches, num_batches):
            pass
        used = time.process_time() - start
        return used + cpu_seconds(self.workers) - start_workers


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor seconds of all threads of processes (Linux), when they have nothing left to do."""
    used = -1
    while (now := sum(_nanoseconds(pid) for pid in pids)) != used:
        used = now
        time.sleep(IDLE_SECONDS)
    return used / 1e9


def _nanoseconds(pid: int) -> int:
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def start(pipeline: Pipeline, data: DataConfig, dataset: DetectionDataset) -> Running:
    """Start a pipeline and take its first batch."""
    before = {child.pid for child in multiprocessing.active_children()}
    batches = pipeline(data, dataset)
    next(batches)
    pids = [child.pid for child in multiprocessing.active_children() if child.pid not in before]
    return Running(batches, tuple(pid for pid in pids if pid is not None))


def measure(data: DataConfig, dataset: DetectionDataset, *, rounds: int, warmup: int) -> dict[str, Running]:
    """Return the pipelines, measured in rounds of 128 images or more, one after the other in each round."""
    per_round = _batches_per_round(data)
    running = {name: start(pipeline, data, dataset) for name, pipeline in PIPELINES.items()}
    for round_idx in range(warmup + rounds):
        for one in running.values():
            seconds = one.load(per_round) / (per_round * data.batch_size)
            if round_idx >= warmup:
                one.seconds.append(seconds)
    return running


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


def report(running: dict[str, Running]) -> list[Figure]:
    """Print the pipelines side by side and return the figures; ratios are those within a round."""
    ours = running["ours"].seconds
    over_ours = {
        name: spread_of([theirs / our for theirs, our in zip(one.seconds, ours, strict=True)])
        for name, one in running.items()
    }
    rows = []
    for name, one in running.items():
        spread = spread_of(one.seconds)
        rows.append(
            {
                "what": name,
                "cpu ms an image": f"{1e3 * spread.median:.2f}",
                "quartiles": f"{1e3 * spread.low:.2f} – {1e3 * spread.high:.2f}",
                "min ms": f"{1e3 * spread.minimum:.2f}",
                "images per cpu second": f"{1 / spread.median:.0f}",
                "× ours": f"{over_ours[name].median:.2f}",
                "peak MiB of the workers": f"{one.peak_bytes / 2**20:.0f}" if one.workers else "",
            }
        )
    print_table(rows)
    spread = spread_of(ours)
    note = f"{1 / spread.minimum:.0f} in the best round"
    figures = [Figure("loader.images_per_cpu_second", 1 / spread.median, 1 / spread.high, 1 / spread.low, note=note)]
    for name in ("torchvision", "Pillow"):
        ratio = over_ours[name]
        figures.append(Figure(f"loader.speedup.{name.lower()}", ratio.median, ratio.low, ratio.high, unit="x"))
    over_floor = spread_of([our / floor for our, floor in zip(ours, running[FLOOR].seconds, strict=True)])
    figures.append(Figure("loader.over_floor", over_floor.median, over_floor.low, over_floor.high, unit="x"))
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
        running = measure(data, dataset, rounds=args.repeats, warmup=args.warmup)
        stages = measure_stages(data, dataset, rounds=args.repeats)
    print(f"{hardware}\n{len(dataset)} images, {args.workers} worker(s), batches of {args.batch_size}")
    figures = report(running)
    print("ours by the clock, ms an image:", ", ".join(f"{k} {1e3 * v:.2f}" for k, v in stages._asdict().items()))
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details={name: one.seconds for name, one in running.items()})


if __name__ == "__main__":
    main()
