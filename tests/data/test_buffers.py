import gc
import mmap
import os
import pickle

import numpy as np
import pytest
import torch

from detector.data.buffers import BatchBuffers, find_buffers


def test_a_slot_is_free_again_when_nothing_refers_to_its_tensor() -> None:
    buffers = BatchBuffers(2, 100)
    slot = buffers.take()
    assert slot is not None
    buffers.write_to(slot, 100)[:] = np.arange(100)
    tensor = buffers.tensor(slot, 100)
    view = tensor.view(10, 10)[3]
    del tensor
    assert buffers.num_free == 1
    assert view.tolist() == [*range(30, 40)]
    del view
    assert buffers.num_free == 2


def test_slots_are_apart_and_without_a_free_one_there_is_none() -> None:
    buffers = BatchBuffers(2, 5000)
    slots = [buffers.take(), buffers.take()]
    assert sorted(slot for slot in slots if slot is not None) == [0, 1]
    assert buffers.take() is None
    buffers.write_to(0, 5000)[:] = 1
    buffers.write_to(1, 5000)[:] = 2
    assert buffers.tensor(0, 5000).unique().tolist() == [1]
    assert buffers.tensor(1, 5000).unique().tolist() == [2]


def test_a_batch_never_reaches_into_the_slot_behind_its_own() -> None:
    buffers = BatchBuffers(2, mmap.PAGESIZE)
    with pytest.raises(AssertionError, match="bytes would reach into the slot behind 0"):
        buffers.write_to(0, mmap.PAGESIZE + 1)


def test_batches_that_never_arrived_are_reclaimed_but_not_those_in_use() -> None:
    buffers = BatchBuffers(3, 8)
    first, _, _ = buffers.take(), buffers.take(), buffers.take()
    assert first is not None
    held = buffers.tensor(first, 8)
    buffers.reclaim()
    assert buffers.num_free == 2
    del held
    assert buffers.num_free == 3


def test_released_memory_of_free_slots_is_empty_and_that_of_others_is_kept() -> None:
    buffers = BatchBuffers(2, 4096)
    slot = buffers.take()
    assert slot is not None
    for idx in range(2):
        buffers.write_to(idx, 4096)[:] = 7
    used = buffers.tensor(slot, 4096)
    blocks = os.fstat(buffers._fd).st_blocks
    buffers.release_memory()
    assert os.fstat(buffers._fd).st_blocks == blocks // 2
    assert used.unique().tolist() == [7]
    assert buffers.write_to(1 - slot, 4096).sum() == 0


def test_a_pickled_copy_writes_to_the_same_memory() -> None:
    buffers = BatchBuffers(1, 16)
    copy = pickle.loads(pickle.dumps(buffers))
    assert copy.key == buffers.key
    copy.write_to(0, 16)[:] = 5
    assert buffers.tensor(0, 16).tolist() == [5] * 16


def test_buffers_end_with_their_last_tensor_and_are_found_until_then() -> None:
    buffers = BatchBuffers(1, 16)
    fd, key = buffers._fd, buffers.key
    assert find_buffers(key) is buffers
    tensor = buffers.tensor(0, 16)
    del buffers
    gc.collect()
    assert torch.equal(tensor, torch.zeros(16, dtype=torch.uint8))
    assert not os.path.exists(f"/proc/self/fd/{fd}")  # noqa: PTH110
