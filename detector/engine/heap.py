"""Freed memory that stays with the process: training on a CPU frees and takes the same buffers in every step.

glibc gives large buffers back to the kernel at once. The next ones are then new pages, which the kernel clears one by
one when they are first touched: 7 % of the processor time of a small network's step (benchmarks/train_step.md).
"""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
"""Of glibc's malloc.h."""

_GROWTH_BYTES: Final = 64 * 2**20
"""What the heap grows by at once."""


def keep_freed_memory() -> bool:
    """Have the process keep the memory that it frees, for what it takes next.

    The largest amount that was ever in use at once stays with the process, as it would on a GPU.

    Returns:
        Whether the C library was told; False where it is not glibc (macOS, Windows, musl), and then nothing changes.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # -1 as a size is the largest there is: never give the end of the heap back. No block is mapped apart from the heap:
    # a high threshold for that instead is refused by older versions, above 32 MiB (mallopt's manual page).
    options = ((_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _GROWTH_BYTES), (_M_MMAP_MAX, 0))
    return all([mallopt(option, value) == 1 for option, value in options])
