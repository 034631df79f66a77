"""The order in which training deals the images, entered at any step without replaying the steps before.

Letters: I images of the dataset, B images of a batch, S batches.
"""

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

_ORDER = 1  # its own stream of random numbers, beside the augmentation's (seed, position) and the short sides'


class GroupedOrder:
    """The endless sequence of global batches, computed an epoch at a time and entered at any step.

    The images of group g, in the order dealt, form one endless stream: n_g of them an epoch. Its batch j is
    ``stream[j * B : (j + 1) * B]`` and is complete when its last image is dealt. Hence epoch e completes the batches
    ``e * n_g // B`` up to ``(e + 1) * n_g // B`` of each group, and the number of steps before any epoch is known
    without dealing it.

    Args:
        group_of: [I] group of each image, I at least 1.
        batch_size: B.
        seed: non-negative seed of the permutations.
    """

    def __init__(self, group_of: npt.NDArray[np.bool_], batch_size: int, seed: int) -> None:
        self._group_of = group_of
        groups, counts = np.unique(group_of, return_counts=True)
        self._groups = list(zip(groups.tolist(), counts.tolist(), strict=True))
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._batches: npt.NDArray[np.int64] = np.empty((0, batch_size), dtype=np.int64)

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """[B] dataset rows of a step."""
        # Every group leaves fewer than B images waiting, so the step is complete by this epoch.
        last = (step + 1 + len(self._groups)) * self._batch_size // len(self._group_of) + 1
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
        """[I] permutation of the dataset rows."""
        return np.random.default_rng((self._seed, epoch, _ORDER)).permutation(len(self._group_of))
