"""detector/engine/fitting.py: the largest number that fits, found in few steps, and what counts as out of memory."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from detector.engine.fitting import divisors, is_out_of_memory, largest_that_fits


def fails_above(limit: int, tried: list[int]) -> Callable[[int], None]:
    def try_step(number: int) -> None:
        tried.append(number)
        if number > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return try_step


@pytest.mark.parametrize("limit", range(18))
def test_the_largest_that_fits_is_found_for_every_limit(limit: int) -> None:
    tried: list[int] = []
    fitting = [number for number in (1, 2, 4, 8, 16) if number <= limit]
    found = largest_that_fits([8, 1, 16, 2, 4, 4], fails_above(limit, tried))
    assert found == (max(fitting) if fitting else None)
    assert len(tried) == len(set(tried)) <= 4


def test_the_largest_is_tried_first_and_alone_where_it_fits() -> None:
    tried: list[int] = []
    assert largest_that_fits(divisors(12), fails_above(99, tried)) == 12
    assert tried == [12]


def test_no_candidates_fit_nothing() -> None:
    assert largest_that_fits([], fails_above(99, [])) is None


def test_an_error_of_another_kind_ends_the_search() -> None:
    def try_step(number: int) -> None:
        raise RuntimeError("a wrong shape")

    with pytest.raises(RuntimeError, match="a wrong shape"):
        largest_that_fits([1, 2], try_step)


def test_what_a_failed_step_held_is_gone_before_the_next_one() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def try_step(number: int) -> None:
        assert all(reference() is None for reference in alive)
        held = torch.ones(10)
        cycle: list[object] = [held]
        cycle.append(cycle)  # as autograd's graphs and exceptions have them: counting references does not free it
        alive.append(weakref.ref(held))
        if number > 1:
            raise MemoryError

    gc.disable()
    try:
        assert largest_that_fits([1, 2, 4], try_step) == 1
    finally:
        gc.enable()
    assert len(alive) > 1


def test_the_hosts_allocator_running_out_is_seen() -> None:
    def try_step(number: int) -> None:
        torch.empty(number * 2**50, dtype=torch.uint8)  # a petabyte, which no host has to give

    assert largest_that_fits([1, 2], try_step) is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_lack_of_memory_is_told_from_its_many_texts(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_divisors_are_complete() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]


@pytest.mark.gpu
def test_on_a_gpu_the_largest_block_that_fits_is_found() -> None:
    total = torch.cuda.get_device_properties(0).total_memory

    def try_step(number: int) -> None:
        torch.empty(number * (total // 8), dtype=torch.uint8, device="cuda")

    found = largest_that_fits([1, 2, 4, 16, 64], try_step)
    assert found in (1, 2, 4)  # others may use the GPU too
    assert torch.cuda.memory_reserved() < total // 8
