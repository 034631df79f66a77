"""Where a loader process spends its time: what the seconds of each stage are added up with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias

Stage: TypeAlias = Literal["read", "decode", "augment", "resize"]


class StageSeconds(NamedTuple):
    """Wall seconds of one process.

    Attributes:
        read: waiting for files, or for pixels of the cache.
        decode: files to pixels.
        augment: transforms.
        resize: to the size of the network's input, and into the batch.
    """

    read: float = 0.0
    decode: float = 0.0
    augment: float = 0.0
    resize: float = 0.0

    def plus(self, other: "StageSeconds") -> "StageSeconds":
        """Return the sum, stage by stage."""
        return StageSeconds(*(mine + others for mine, others in zip(self, other, strict=True)))


class StageClock:
    """Adds up the seconds of each stage; costs about a microsecond a use."""

    def __init__(self) -> None:
        self._seconds = StageSeconds()._asdict()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Count what happens inside, unless it fails: then the batch fails with it."""
        start = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - start

    @property
    def seconds(self) -> StageSeconds:
        """What has been added up."""
        return StageSeconds(**self._seconds)
