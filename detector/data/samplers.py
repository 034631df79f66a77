"""Which images make up which batch: pure functions of the seed and the step, so nothing needs to be saved.

Letters: I images of the dataset, B images of one optimiser step over all processes and micro-batches.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import Sampler

from detector.data.order import GroupedOrder, group_images
from detector.data.padding import Padding
from detector.data.resize import resized_size
from detector.errors import UserError
from detector.structures import Size

_SHORT_SIDE = 2  # its own stream of random numbers, beside the augmentation's (seed, position) and the order's


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a loader worker needs to know to make one sample.

    Attributes:
        index: row of the dataset, in [0, I).
        position: number of the sample since step 0, counted over all processes; it seeds the augmentation.
        short_side: target of the resize in pixels.
        padded_size: planned (height, width) of the batch.
    """

    index: int
    position: int
    short_side: int
    padded_size: Size


def split_batch(batch_size: int, images_per_forward: int | Literal["auto"], num_processes: int) -> tuple[int, int]:
    """Divide the images of one optimiser step among processes and micro-batches.

    Args:
        batch_size: images of one step over everything.
        images_per_forward: images that one process forwards at once; "auto" = ``batch_size / num_processes``.
        num_processes: number of processes.

    Returns:
        ``(images_per_forward, num_micro_batches)`` of one process.

    Raises:
        UserError: the numbers do not divide.
    """
    if batch_size % num_processes:
        raise UserError(
            f"data.batch_size: {batch_size} images cannot be shared equally by {num_processes} processes; "
            f"choose a multiple of {num_processes}"
        )
    share = batch_size // num_processes
    if images_per_forward == "auto":
        return share, 1
    if share % images_per_forward:
        raise UserError(
            f"data.images_per_forward: {images_per_forward} does not divide the {share} images that each of "
            f"{num_processes} process(es) gets of data.batch_size = {batch_size}"
        )
    return images_per_forward, share // images_per_forward


class TrainSampler(Sampler[list[SampleKey]]):
    """Endless micro-batches of one process, every one a pure function of (seed, sizes, batch_size, step).

    Epoch e is a permutation of the images from (seed, e). Without aspect grouping the permutations, one after the
    other, are cut into batches. With it (as in detectron2) they are dealt into two bins, portrait (height > width) and
    the rest; a bin that holds B images becomes the next batch, and what is left in a bin at the end of an epoch is
    carried into the next. So every image is *dealt* exactly once an epoch, and *used* once an epoch up to that carry of
    fewer than B images per bin; none is dropped or favoured. (A bin that never gets B
    images, in a run of few epochs with few images of one orientation, makes no batch: `aspect_grouping` off.)
    With repeat factors an epoch deals some images several times, see :class:`~detector.data.order.GroupedOrder`.

    All processes build the same global batch; process r's micro-batch m takes its slots from
    ``r * B / num_processes + m * images_per_forward`` on, and all of them are padded to the shape of the global batch.
    Iterating starts at ``start_step`` every time.

    Args:
        sizes: [I, 2] (height, width) of the annotated images in pixels.
        batch_size: B.
        seed: non-negative seed of the order and of the short sides.
        short_sides: one of these is drawn per sample, from (seed, position).
        max_side: limit of the longer side in pixels.
        padding: rule of the padded shape.
        aspect_grouping: whether only images of one orientation share a batch.
        repeat_factors: [I] at least 1: how many times as often as others an image is dealt; None = each once an epoch.
        images_per_forward: images of one micro-batch; "auto" = B / num_processes.
        rank: this process, in [0, num_processes).
        num_processes: number of processes.
        start_step: the first step to yield, 0 for a new run.

    Raises:
        UserError: the batch does not divide among processes and micro-batches, or there are no images.
    """

    def __init__(
        self,
        sizes: Tensor,
        *,
        batch_size: int,
        seed: int,
        short_sides: tuple[int, ...],
        max_side: int,
        padding: Padding,
        aspect_grouping: bool = True,
        repeat_factors: npt.NDArray[np.float64] | None = None,
        images_per_forward: int | Literal["auto"] = "auto",
        rank: int = 0,
        num_processes: int = 1,
        start_step: int = 0,
    ) -> None:
        if len(sizes) == 0:
            raise UserError("data.train: the annotation file has no images, so there is nothing to learn from")
        self.images_per_forward, self.num_micro_batches = split_batch(batch_size, images_per_forward, num_processes)
        self._sizes = _as_array(sizes)
        self._batch_size = batch_size
        self._seed = seed
        self._short_sides = short_sides
        self._max_side = max_side
        self._padding = padding
        self._first_slot = rank * (batch_size // num_processes)
        self._start_step = start_step
        self._order = GroupedOrder(
            group_images(self._sizes, by_aspect=aspect_grouping), batch_size, seed, repeat_factors
        )

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.batches(0)

    def batches(self, first: int) -> Iterator[list[SampleKey]]:
        """Return the micro-batches from number ``first`` on, counted from the first one of ``start_step``."""
        num_steps, first_micro_batch = divmod(first, self.num_micro_batches)
        step = self._start_step + num_steps
        while True:
            keys = self.global_batch(step)
            for micro_batch in range(first_micro_batch, self.num_micro_batches):
                slot = self._first_slot + micro_batch * self.images_per_forward
                yield keys[slot : slot + self.images_per_forward]
            step, first_micro_batch = step + 1, 0

    def global_batch(self, step: int) -> list[SampleKey]:
        """Return the B samples of a step over all processes and micro-batches."""
        indices = self._order.batch(step).tolist()
        positions = range(step * self._batch_size, (step + 1) * self._batch_size)
        short_sides = [self._short_side(position) for position in positions]
        sizes = [
            resized_size((int(self._sizes[index, 0]), int(self._sizes[index, 1])), short_side, self._max_side)
            for index, short_side in zip(indices, short_sides, strict=True)
        ]
        padded_size = self._padding.padded(sizes)
        return [
            SampleKey(index, position, short_side, padded_size)
            for index, position, short_side in zip(indices, positions, short_sides, strict=True)
        ]

    def _short_side(self, position: int) -> int:
        if len(self._short_sides) == 1:
            return self._short_sides[0]
        generator = np.random.default_rng((self._seed, position, _SHORT_SIDE))
        return self._short_sides[int(generator.integers(len(self._short_sides)))]


class EvalSampler(Sampler[list[SampleKey]]):
    """Batches that cover every image exactly once over the processes; only equal padded shapes share a batch.

    An image is therefore padded the same whatever the batch size and the number of processes are. Largest shapes come
    first, so that a batch too large for the memory fails at once. The last batch of a shape may be short, and one
    process may get one batch more than another.

    Args:
        sizes: [I, 2] (height, width) of the annotated images in pixels; I may be 0.
        short_side: target of the resize in pixels.
        max_side: limit of the longer side in pixels.
        padding: rule of the padded shape.
        batch_size: images that one process forwards at once.
        rank: this process, in [0, num_processes).
        num_processes: number of processes.

    Raises:
        UserError: an image fits in no bucket.
    """

    def __init__(
        self,
        sizes: Tensor,
        *,
        short_side: int,
        max_side: int,
        padding: Padding,
        batch_size: int,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        by_shape: dict[Size, list[SampleKey]] = defaultdict(list)
        for index, (height, width) in enumerate(_as_array(sizes).tolist()):
            shape = padding.padded([resized_size((height, width), short_side, max_side)])
            by_shape[shape].append(SampleKey(index, index, short_side, shape))
        largest_first = sorted(by_shape, key=lambda shape: (-shape[0] * shape[1], shape))
        batches = [
            by_shape[shape][first : first + batch_size]
            for shape in largest_first
            for first in range(0, len(by_shape[shape]), batch_size)
        ]
        self._batches = batches[rank::num_processes]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.batches(0)

    def batches(self, first: int) -> Iterator[list[SampleKey]]:
        """Return the batches from number ``first`` on."""
        return iter(self._batches[first:])

    def __len__(self) -> int:
        return len(self._batches)


def _as_array(sizes: Tensor) -> npt.NDArray[np.int64]:
    # A copy: handing the dataset to a spawned worker moves its tensors, and numpy's view of them would dangle.
    return np.array(sizes.tolist(), dtype=np.int64).reshape(-1, 2)
