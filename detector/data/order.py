"""The order in which training deals the images, entered at any step without replaying the steps before.

Letters: I images of the dataset, B images of a batch, S batches.
"""

import math
from bisect import bisect_right

import numpy as np
import numpy.typing as npt

_ORDER = 1  # its own stream of random numbers, beside the augmentation's (seed, position) and the short sides'

Groups = npt.NDArray[np.bool_]
Factors = npt.NDArray[np.float64]


def group_images(sizes: npt.NDArray[np.int64], *, by_aspect: bool) -> Groups:
    """Return the group of each image: portrait (height > width) or not; all in one without ``by_aspect``.

    Args:
        sizes: [I, 2] (height, width).
        by_aspect: whether orientations are kept apart.
    """
    portrait = sizes[:, 0] > sizes[:, 1]
    return portrait if by_aspect else np.zeros_like(portrait)


def images_per_epoch(group_of: Groups, repeat_factors: Factors) -> int:
    """Return how many images one epoch deals where images are repeated: the sum of the factors, rounded by group.

    Args:
        group_of: [I] group of each image.
        repeat_factors: [I] at least 1.
    """
    return sum(count for _, count in _count_groups(group_of, repeat_factors))


def _count_groups(group_of: Groups, repeat_factors: Factors | None) -> list[tuple[bool, int]]:
    """Return the groups, and n_g of each: images that an epoch deals of it."""
    groups, counts = np.unique(group_of, return_counts=True)
    if repeat_factors is not None:
        # The sum is correctly rounded, so that no machine deals another number than the one a run began on.
        counts = np.array([round(math.fsum(repeat_factors[group_of == group])) for group in groups])
    return list(zip(groups.tolist(), counts.tolist(), strict=True))


class GroupedOrder:
    """The endless sequence of global batches, computed an epoch at a time and entered at any step.

    The images of group g, in the order dealt, form one endless stream: n_g of them an epoch. Its batch j is
    ``stream[j * B : (j + 1) * B]`` and is complete when its last image is dealt. Hence epoch e completes the batches
    ``e * n_g // B`` up to ``(e + 1) * n_g // B`` of each group, and the number of steps before any epoch is known
    without dealing it.

    Without repeat factors an epoch deals each image once. With them, n_g is the sum of the group's factors, rounded,
    and an image's share in it, s_i = n_g * r_i / sum(r), is dealt by systematic sampling: in every epoch floor(s_i) or
    ceil(s_i) times, over the epochs s_i times in the mean.

    Args:
        group_of: [I] group of each image, I at least 1.
        batch_size: B.
        seed: non-negative seed of the permutations.
        repeat_factors: [I] at least 1: how many times as often as others an image is dealt; None = each once an epoch.
    """

    def __init__(self, group_of: Groups, batch_size: int, seed: int, repeat_factors: Factors | None = None) -> None:
        self._group_of = group_of
        self._repeat_factors = repeat_factors
        self._groups = _count_groups(group_of, repeat_factors)
        self._images_per_epoch = sum(count for _, count in self._groups)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._batches: npt.NDArray[np.int64] = np.empty((0, batch_size), dtype=np.int64)

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """[B] dataset rows of a step."""
        # Every group leaves fewer than B images waiting, so the step is complete by this epoch.
        last = (step + 1 + len(self._groups)) * self._batch_size // self._images_per_epoch + 1
        epoch = bisect_right(range(last + 1), step, key=self._steps_before) - 1
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._complete(epoch)
        indices: npt.NDArray[np.int64] = self._batches[step - self._steps_before(epoch)]
        return indices

    def _steps_before(self, epoch: int) -> int:
        return sum(epoch * count // self._batch_size for _, count in self._groups)

    def _complete(self, epoch: int) -> npt.NDArray[np.int64]:
        """[S, B] batches that are completed in an epoch, in the order of their completion."""
        size = self._batch_size
        batches, completed_at = [], []
        dealt = self._deal(epoch)
        for group, count in self._groups:
            first, stop = epoch * count // size, (epoch + 1) * count // size
            if first == stop:
                continue
            first_epoch = first * size // count  # the carry may be older than one epoch where the group is small
            streams = [self._deal(e) if e != epoch else dealt for e in range(first_epoch, epoch + 1)]
            stream = np.concatenate([images[self._group_of[images] == group] for images in streams])
            skipped = first * size - first_epoch * count
            batches.append(stream[skipped : skipped + (stop - first) * size].reshape(-1, size))
            places = np.flatnonzero(self._group_of[dealt] == group)
            completed_at.append(places[np.arange(first + 1, stop + 1) * size - 1 - epoch * count])
        return np.concatenate(batches)[np.argsort(np.concatenate(completed_at))]

    def _deal(self, epoch: int) -> npt.NDArray[np.int64]:
        """[sum of n_g] dataset rows in the order dealt; without repeat factors a permutation of them."""
        generator = np.random.default_rng((self._seed, epoch, _ORDER))
        order = generator.permutation(len(self._group_of))
        if self._repeat_factors is None:
            return order
        dealt = []
        for group, count in self._groups:
            rows = order[self._group_of[order] == group]
            times = sample_systematically(self._repeat_factors[rows], count, generator.random())
            dealt.append(np.repeat(rows, times))
        return generator.permutation(np.concatenate(dealt))


def sample_systematically(factors: Factors, count: int, offset: float) -> npt.NDArray[np.int64]:
    """[I] how often each image is drawn: as often as a tick of a ruler falls into its share of the length ``count``.

    Args:
        factors: [I] proportional to the shares, which lie one behind the other in this order.
        count: number of ticks, which are one apart.
        offset: of the ruler, in [0, 1).
    """
    ends = np.cumsum(factors) * (count / math.fsum(factors))
    ticks = np.floor(ends + offset)
    ticks[-1] = count  # whatever the rounding of the sum
    return np.diff(ticks, prepend=0.0).astype(np.int64)
