"""Which slot of the loader's memory each batch is written to."""

from collections.abc import Iterator
from typing import Final

from torch.utils.data import Sampler

from detector.config import DataConfig
from detector.data.batch_source import BatchRequest
from detector.data.buffers import BatchBuffers
from detector.data.padding import Padding
from detector.data.samplers import SampleKey

PREFETCH_FACTOR: Final = 2
"""Batches that each worker is asked for in advance."""

NUM_STEPS_HELD: Final = 2
"""Steps whose batches the train loop refers to at once: it fetches those of a step before it lets the last ones go."""


class SlotSampler(Sampler[BatchRequest]):
    """Gives every batch that is asked for a slot to be written to.

    Args:
        sampler: deals the batches.
        buffers: have the slots.
    """

    def __init__(self, sampler: Sampler[list[SampleKey]], buffers: BatchBuffers) -> None:
        self._sampler = sampler
        self._buffers = buffers

    def __iter__(self) -> Iterator[BatchRequest]:
        # ``DataLoader`` asks for the first batch when its workers are done with all that an earlier pass has asked for.
        self._buffers.reclaim()
        for keys in self._sampler:
            yield BatchRequest(self._buffers.take(), keys)

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]  # a training sampler has none, which is a TypeError


def build_buffers(data: DataConfig, images_per_batch: int, batches_per_step: int = 1) -> BatchBuffers:
    """Return slots for the batches that are read ahead, and for those that the caller holds.

    Args:
        data: decides the largest shape of a batch, and how many are read ahead.
        images_per_batch: images of one micro-batch.
        batches_per_step: micro-batches.
    """
    shapes = data.buckets or (Padding(data.pad_multiple).padded([(data.max_side, data.max_side)]),)
    largest = max(height * width for height, width in shapes)
    num_ahead = max(1, data.num_workers * PREFETCH_FACTOR)
    return BatchBuffers(num_ahead + NUM_STEPS_HELD * batches_per_step, images_per_batch * largest * 3)
