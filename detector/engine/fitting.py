"""How many images fit into the memory: a search over numbers of images, with steps that may run out of it."""

import gc
from collections.abc import Callable, Iterable
from typing import Final

import torch

_OUT_OF_MEMORY: Final = (
    "out of memory",  # CUDA's own, where the caching allocator was not the one to ask for more
    "ALLOC_FAILED",  # cuDNN, cuBLAS: no room for their workspace
    "can't allocate memory",  # torch's allocator of the host
)


def largest_that_fits(candidates: Iterable[int], try_step: Callable[[int], object]) -> int | None:
    """Return the largest number for which a step does not run out of memory.

    The largest is tried first, as most often it fits; after that the range is halved. What fits is taken to fit with
    fewer too. After a step that ran out of memory, what it held is released before the next one is tried.

    Args:
        candidates: numbers to choose from (images of one forward pass: the divisors of a process's share), each at
            least 1; may be empty.
        try_step: makes a whole step with so many images, of the largest shape that training can meet. It may leave the
            weights, the optimiser or the gradients changed, or half changed where it fails: that is for the caller to
            put right. Any error but a lack of memory ends the search.

    Returns:
        One of the candidates; None if none of them fits, or there is none.
    """
    numbers = sorted(set(candidates))
    low, high = 0, len(numbers)  # below low all fit, from high on none
    middle = high - 1
    while low < high:
        if _fits(numbers[middle], try_step):
            low = middle + 1
        else:
            high = middle
        middle = (low + high) // 2
    return numbers[low - 1] if low else None


def divisors(number: int) -> list[int]:
    """Return what divides ``number`` (at least 1), in ascending order."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on the GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def release_memory() -> None:
    """Give back what nothing refers to any more: cycles of Python objects, and the caching allocator's free blocks."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _fits(number: int, try_step: Callable[[int], object]) -> bool:
    try:
        try_step(number)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    # Only here: inside the handler the error's traceback still holds the frames of the step, with all their tensors.
    release_memory()
    return fits
