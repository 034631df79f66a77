"""What a loader worker does: from keys of samples to a batch, or to the message of an error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from detector.data.batch_pixels import Allocate, BatchPixels
from detector.data.buffers import BatchBuffers
from detector.data.packed_batch import PackedBatch
from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.data.samplers import SampleKey
from detector.data.stages import StageClock, StageSeconds
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

    def read(self, index: int, clock: StageClock) -> Sample:
        """Read an image with its ground truth; raises UserError if it cannot be read."""


class BatchRequest(NamedTuple):
    """What a worker is asked for.

    Attributes:
        slot: of the buffers, to write the batch to; None if none is free.
        keys: the samples.
    """

    slot: int | None
    keys: Sequence[SampleKey]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker sends: a batch, or why there is none, and what the user should be told.

    An exception raised in a worker would reach the training process as the text of a traceback, so the message of a
    :class:`UserError` travels as a value.

    Attributes:
        batch: the batch, None where there is an error.
        error: message of the error, empty where there is none.
        notes: a line for each image that was skipped.
        seconds: what it took.
    """

    batch: PackedBatch | Batch | None
    error: str
    notes: tuple[str, ...]
    seconds: StageSeconds

    def unpack(self) -> Batch | None:
        """Return the batch, None where there is an error; call it once."""
        return self.batch.unpack() if isinstance(self.batch, PackedBatch) else self.batch

    def pin_memory(self) -> "Loaded":
        """Return this with the batch unpacked, in page-locked memory (``DataLoader`` calls this)."""
        batch = self.unpack()
        return self if batch is None else replace(self, batch=batch.pin_memory())


class BatchSource(Dataset[Any]):
    """Makes whole batches in a worker: read, augment, and resize into the batch.

    Args:
        dataset: where samples are read.
        padding: rule of the padded shape.
        max_side: limit of the longer side in pixels.
        transforms: augmentation, None for evaluation.
        seed: seed of the augmentation, together with the position of a sample.
        on_unreadable: whether an image that cannot be read stops the loader or is replaced by the next one.
        buffers: what the slots of requests belong to.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        padding: Padding,
        max_side: int,
        transforms: Transforms | None = None,
        seed: int = 0,
        on_unreadable: Literal["stop", "skip"] = "stop",
        *,
        buffers: BatchBuffers,
    ) -> None:
        self._dataset = dataset
        self._padding = padding
        self._max_side = max_side
        self._transforms = transforms
        self._seed = seed
        self._on_unreadable = on_unreadable
        self.buffers = buffers

    def __getitems__(self, request: BatchRequest) -> Loaded:
        """Make the batch of a request; ``DataLoader`` prefers this method to item by item."""
        notes: list[str] = []
        clock = StageClock()
        try:
            batch = self._make(request, clock, notes)
        except UserError as error:
            return Loaded(None, str(error), tuple(notes), clock.seconds)
        return Loaded(batch, "", tuple(notes), clock.seconds)

    def _make(self, request: BatchRequest, clock: StageClock, notes: list[str]) -> PackedBatch:
        """Make a batch; every image is let go when it has been resized into it."""
        slot, keys = request
        pixels = BatchPixels(self._allocator(slot), len(keys), keys[0].padded_size)
        samples = []
        for key in keys:
            sample = self._read(key.index, clock, notes)
            if self._transforms is not None:
                with clock.stage("augment"):
                    sample = self._transforms(sample, (self._seed, key.position))
            height, width = sample.image.shape[:2]
            with clock.stage("resize"):
                samples.append(pixels.add(sample, resized_size((height, width), key.short_side, self._max_side)))
        with clock.stage("resize"):
            return PackedBatch.pack(samples, pixels.finish(self._padding), self.buffers, slot)

    def _allocator(self, slot: int | None) -> Allocate:
        if slot is None:
            return lambda num_bytes: np.empty(num_bytes, dtype=np.uint8)
        return partial(self.buffers.write_to, slot)

    def _read(self, index: int, clock: StageClock, notes: list[str]) -> Sample:
        """Read an image, or the next readable one where the user said so."""
        if self._on_unreadable == "stop":
            return self._dataset.read(index, clock)
        num_images = len(self._dataset)
        num_tries = min(num_images, MAX_UNREADABLE_IN_A_ROW)
        message = ""
        for offset in range(num_tries):
            try:
                return self._dataset.read((index + offset) % num_images, clock)
            except UserError as error:
                message = str(error)
                notes.append(f"skipped because of data.on_unreadable = skip: {message}")
        raise UserError(f"data.on_unreadable: {num_tries} images in a row cannot be read, the last because: {message}")
