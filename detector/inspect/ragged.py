"""Ranges of different lengths, laid end to end in one array."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def lay_ranges(starts: IntArray, counts: IntArray) -> tuple[IntArray, IntArray]:
    """Return the numbers of several ranges, one range after the other.

    Args:
        starts: [P] first number of each range.
        counts: [P] how many numbers it has, 0 or more.

    Returns:
        Two arrays of ``counts.sum()``: the range that each number belongs to, in [0, P), and the numbers.
    """
    owners = np.repeat(np.arange(len(counts)), counts)
    firsts = np.cumsum(counts) - counts  # where each range begins in the result
    return owners, np.arange(len(owners)) - (firsts - starts)[owners]
