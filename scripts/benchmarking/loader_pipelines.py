"""The pipelines that ``benchmark_loader.py`` compares: ours, torchvision's, Pillow's, and what OpenCV alone takes.

Each gets a configuration and a dataset, and yields batches of the same images in the same order, without end.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detector.config import DataConfig
from detector.data.collate import collate
from detector.data.dataset import DetectionDataset
from detector.data.loader import build_train_loader
from detector.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from detector.data.resize import resized_size
from detector.data.transforms import build_transforms
from detector.structures import Sample

SHORT_SIDE: Final = 800
MAX_SIDE: Final = 1333

Batches = Iterator[object]
Pipeline = Callable[[DataConfig, DetectionDataset], Batches]


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


def floor(data: DataConfig, dataset: DetectionDataset) -> Batches:
    """Decode and resize with OpenCV in this process, into memory that is there, and do nothing else."""
    largest = np.empty((MAX_SIDE, MAX_SIDE, 3), dtype=np.uint8)
    for indices in _Order(data, dataset):
        for index in indices:
            file = np.frombuffer(dataset.image_path(index).read_bytes(), np.uint8)
            image = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            assert image is not None
            height, width = resized_size((image.shape[0], image.shape[1]), SHORT_SIDE, MAX_SIDE)
            is_smaller = height * width < image.shape[0] * image.shape[1]
            interpolation = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
            cv2.resize(image, (width, height), dst=largest[:height, :width], interpolation=interpolation)
        yield indices


FLOOR: Final = "OpenCV: decode and resize alone"
PIPELINES: Final[dict[str, Pipeline]] = {
    "ours": ours,
    "torchvision": theirs,
    "Pillow": pillow,
    FLOOR: floor,
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
