"""A sampler that begins in the middle."""

from collections.abc import Iterator, Sized
from typing import Protocol

from torch.utils.data import Sampler

from detector.data.samplers import SampleKey


class BatchSampler(Protocol):
    """What deals batches by their number."""

    def batches(self, first: int) -> Iterator[list[SampleKey]]:
        """Return the batches from number ``first`` on."""


class ContinuedSampler(Sampler[list[SampleKey]]):
    """Deals the batches of another sampler, from :attr:`first` on.

    Args:
        sampler: deals batches.

    Attributes:
        first: number of the batch that the next pass begins with.
    """

    def __init__(self, sampler: BatchSampler) -> None:
        self._sampler = sampler
        self.first = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self._sampler.batches(self.first)

    def __len__(self) -> int:
        """Number of batches in all, only of a sampler that has an end."""
        if not isinstance(self._sampler, Sized):
            raise TypeError("the batches have no end")
        return len(self._sampler)
