"""What a loader worker does: from keys of samples to a batch, or to the message of an error."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor
from torch.utils.data import Dataset

from detector.data.collate import collate
from detector.data.padding import Padding
from detector.data.resize import resize_sample, resized_size
from detector.data.samplers import SampleKey
from detector.data.transforms import Transforms
from detector.errors import UserError
from detector.structures import Batch, Sample

MAX_UNREADABLE_IN_A_ROW = 32
"""With ``data.on_unreadable: skip``, as many unreadable images one after the other mean that the folder is wrong."""


class ImageDataset(Protocol):
    """What a loader needs of a dataset."""

    @property
    def sizes(self) -> Tensor:
        """[I, 2] int64, annotated (height, width) of the images in pixels."""

    def __len__(self) -> int:
        """I, the number of images."""

    def __getitem__(self, index: int) -> Sample:
        """Read an image with its ground truth; raises UserError if it cannot be read."""


class Loaded(NamedTuple):
    """What a worker sends: a batch, or why there is none, and what the user should be told.

    An exception raised in a worker would reach the training process as the text of a traceback, so the message of a
    :class:`UserError` travels as a value.

    Attributes:
        batch: the batch, None where there is an error.
        error: message of the error, empty where there is none.
        notes: a line for each image that was skipped.
    """

    batch: Batch | None
    error: str
    notes: tuple[str, ...]


class BatchSource(Dataset[Any]):
    """Makes whole batches in a worker: read, augment, resize, collate.

    Args:
        dataset: where samples are read.
        padding: rule of the padded shape.
        max_side: limit of the longer side in pixels.
        transforms: augmentation, None for evaluation.
        seed: seed of the augmentation, together with the position of a sample.
        on_unreadable: whether an image that cannot be read stops the loader or is replaced by the next one.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        padding: Padding,
        max_side: int,
        transforms: Transforms | None = None,
        seed: int = 0,
        on_unreadable: Literal["stop", "skip"] = "stop",
    ) -> None:
        self._dataset = dataset
        self._padding = padding
        self._max_side = max_side
        self._transforms = transforms
        self._seed = seed
        self._on_unreadable = on_unreadable

    def __getitems__(self, keys: Sequence[SampleKey]) -> Loaded:
        """Make the batch of these keys; ``DataLoader`` prefers this method to item by item."""
        notes: list[str] = []
        try:
            samples = [self._sample(key, notes) for key in keys]
            # Transforms may have changed sizes, so the plan is checked against what the images need.
            padded_size = self._padding.padded([keys[0].padded_size, *((s.image.shape[:2]) for s in samples)])
        except UserError as error:
            return Loaded(None, str(error), tuple(notes))
        return Loaded(collate(samples, padded_size), "", tuple(notes))

    def _sample(self, key: SampleKey, notes: list[str]) -> Sample:
        sample = self._read(key.index, notes)
        if self._transforms is not None:
            sample = self._transforms(sample, (self._seed, key.position))
        height, width = sample.image.shape[:2]
        return resize_sample(sample, resized_size((height, width), key.short_side, self._max_side))

    def _read(self, index: int, notes: list[str]) -> Sample:
        """Read an image, or the next readable one where the user said so."""
        if self._on_unreadable == "stop":
            return self._dataset[index]
        num_images = len(self._dataset)
        num_tries = min(num_images, MAX_UNREADABLE_IN_A_ROW)
        message = ""
        for offset in range(num_tries):
            try:
                return self._dataset[(index + offset) % num_images]
            except UserError as error:
                message = str(error)
                notes.append(f"skipped because of data.on_unreadable = skip: {message}")
        raise UserError(f"data.on_unreadable: {num_tries} images in a row cannot be read, the last because: {message}")
