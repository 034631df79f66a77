"""Memory that batches are written to, again and again: loader processes write, the training process reads.

New memory for every batch would cost more than the resize into it: the system hands it out in pages of 4 KB, each
cleared first, and a batch of 16 images has 12,000 of them.
"""

import mmap
import os
import weakref
from multiprocessing import reduction
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_OPEN: Final["weakref.WeakValueDictionary[int, BatchBuffers]"] = weakref.WeakValueDictionary()
"""The buffers of this process by their key: what a batch from another process refers to, and torch keeps of its own
shared memory likewise."""


class BatchBuffers:
    """Slots of equal size in memory that is shared with loader processes, forked or spawned.

    The process that makes it hands slots out and takes them back; the others only write to those that they are told.
    A slot is lent from :meth:`take` on until nothing refers to the tensor of :meth:`tensor` any more.

    The memory belongs to no file system (Linux ``memfd``), so the size of ``/dev/shm`` is no limit, and it takes up
    what has been written to, not what slots could hold.

    Args:
        num_slots: batches that are in the making or in use at once; where more are, they go without a slot.
        slot_bytes: size of the largest batch.
    """

    def __init__(self, num_slots: int, slot_bytes: int) -> None:
        self._slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        fd = os.memfd_create("detector-batches")
        os.ftruncate(fd, max(1, num_slots) * self._slot_bytes)
        self._free = list(range(num_slots))  # a stack: the slot used last is taken first, so few are ever touched
        self._lent: set[int] = set()
        self._open(fd)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (reduction.DupFd(self._fd), self._slot_bytes)

    @property
    def num_free(self) -> int:
        """Slots that can be taken."""
        return len(self._free)

    def take(self) -> int | None:
        """Return a slot to write a batch to; None if all are lent."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._lent.add(slot)
        return slot

    def reclaim(self) -> None:
        """Take back the slots whose batches never arrived, when nobody writes to them any more."""
        self._free.extend(self._lent)
        self._lent.clear()

    def write_to(self, slot: int, num_bytes: int) -> npt.NDArray[np.uint8]:
        """Return the first bytes of a slot, to be written to; what was in it before is still there."""
        assert num_bytes <= self._slot_bytes, f"{num_bytes} bytes would reach into the slot behind {slot}"
        return np.frombuffer(self._memory, np.uint8, count=num_bytes, offset=slot * self._slot_bytes)

    def tensor(self, slot: int, num_bytes: int) -> Tensor:
        """Return the first bytes of a slot as a tensor; when it and all views of it are gone, the slot is free."""
        array = self.write_to(slot, num_bytes)
        self._lent.discard(slot)
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)  # its storage keeps the array alive

    def release_memory(self) -> None:
        """Give the memory of all free slots back to the system, until they are written to again."""
        for slot in list(self._free):
            self._memory.madvise(mmap.MADV_REMOVE, slot * self._slot_bytes, self._slot_bytes)

    def _open(self, fd: int) -> None:
        self._fd = fd
        self._memory = mmap.mmap(fd, 0)
        self.key = os.fstat(fd).st_ino
        weakref.finalize(self, os.close, fd)
        _OPEN[self.key] = self


def find_buffers(key: int) -> BatchBuffers:
    """Return the buffers of this process that have a key."""
    return _OPEN[key]


def _attach(fd: Any, slot_bytes: int) -> BatchBuffers:
    """Return the buffers of another process, without the slots to hand out."""
    buffers = BatchBuffers.__new__(BatchBuffers)
    buffers._slot_bytes = slot_bytes
    buffers._free, buffers._lent = [], set()
    buffers._open(fd.detach())
    return buffers
