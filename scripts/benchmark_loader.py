"""How much processor time loading an image costs: ours against torchvision's reference pipeline and one of Pillow.

All three decode, flip half of the images, resize them to 800/1333 and put them into batches; in one run, in turn, on
the same batches of images. Counted is the processor time of all processes: that of the workers from one moment without
work to the next, and that of the process that takes the batches. torchvision's references resize (and normalise) in the
network, on floats: on a GPU, where there is one; here that counts as part of its input. Without --annotations the
images are those of the generated demo set, which are small: the target is about real photos.

    python scripts/benchmark_loader.py --annotations instances.json --images photos/
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarking import Figure, describe_hardware, make_parser, print_figures, print_table, write_figures
from benchmarking.timing import spread_of
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detector.config import DataConfig, SplitConfig
from detector.data.collate import collate
from detector.data.dataset import DetectionDataset, open_coco_dataset
from detector.data.demo_set import make_demo_set
from detector.data.loader import build_train_loader
from detector.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from detector.data.resize import resized_size
from detector.data.transforms import build_transforms
from detector.structures import Sample

SHORT_SIDE, MAX_SIDE = 800, 1333
IDLE_SECONDS = 0.05
"""Workers that have used no processor time for so long have made all batches that they were asked for."""

Batches = Iterator[object]


class TorchvisionImages(Dataset[Any]):
    """torchvision's references/detection with the preset ``hflip``: tensors, flipped, as floats."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset
        self.flip = v2.Compose([v2.PILToTensor(), v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float, scale=True)])

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.dataset.image_path(index)) as image:
            flipped: Tensor = self.flip(image.convert("RGB"))
        return flipped


class PillowImages(Dataset[Any]):
    """Everything by Pillow, one resized array an image."""

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        table = self.dataset.table
        with Image.open(self.dataset.image_path(index)) as file:
            image = file.convert("RGB")
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        height, width = resized_size((image.height, image.width), SHORT_SIDE, MAX_SIDE)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        boxes = slice(*table.box_offsets[index : index + 2].tolist())
        return Sample(
            image=np.asarray(image),
            boxes=table.boxes[boxes].numpy(),
            labels=table.labels[boxes].numpy(),
            ignore=table.ignore[boxes].numpy(),
            image_id=index,
            original_size=(height, width),
        )


def pad(samples: list[Sample]) -> object:
    """Return the batch of resized samples."""
    return collate(samples, (32, 32))


def keep(images: list[Tensor]) -> list[Tensor]:
    """Return images of several sizes as torchvision's references do: in a list."""
    return images


def ours(data: DataConfig, dataset: DetectionDataset) -> Batches:
    """Yield our batches."""
    return iter(build_train_loader(data, dataset, build_transforms(data.augment), seed=0))


def theirs(data: DataConfig, dataset: DetectionDataset) -> Batches:
    """Yield torchvision's batches, resized by what its RetinaNet resizes with."""
    transform = GeneralizedRCNNTransform(SHORT_SIDE, MAX_SIDE, list(IMAGENET_MEAN), list(IMAGENET_STD))
    for images in _peer_loader(data, dataset, TorchvisionImages(dataset), keep):
        yield transform(images)[0].tensors


def pillow(data: DataConfig, dataset: DetectionDataset) -> Batches:
    """Yield Pillow's batches."""
    return iter(_peer_loader(data, dataset, PillowImages(dataset), pad))


PIPELINES: dict[str, Callable[[DataConfig, DetectionDataset], Batches]] = {
    "ours": ours,
    "torchvision": theirs,
    "Pillow": pillow,
}


def _peer_loader(
    data: DataConfig, dataset: DetectionDataset, images: Dataset[Any], collate_fn: Callable[[Any], object]
) -> Iterable[Any]:
    """Return a plain loader of the batches of images that ours has, in the same order."""
    return DataLoader(
        images,
        batch_sampler=_Order(data, dataset),
        num_workers=data.num_workers,
        collate_fn=collate_fn,
        worker_init_fn=one_thread,
    )


class _Order:
    def __init__(self, data: DataConfig, dataset: DetectionDataset) -> None:
        self.loader = build_train_loader(
            data.model_copy(update={"num_workers": 0}), dataset, build_transforms([]), seed=0
        )

    def __iter__(self) -> Iterator[list[int]]:
        sampler: Any = self.loader._sampler  # what deals the images
        return ([key.index for key in keys] for keys in sampler)


def one_thread(worker_id: int = 0) -> None:
    """Let a process use one thread, as our workers do."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


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
    per_round = max(1, -(-128 // data.batch_size))
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
    print(f"{hardware}\n{len(dataset)} images, {args.workers} worker(s), batches of {args.batch_size}")
    figures = report(seconds)
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details=seconds)


if __name__ == "__main__":
    main()
