"""How many images one forward pass can have: from what a few of them take, and tried where that is safe.

Letters: n images of one forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from detector.engine.benchmark.ceilings import synchronize
from detector.engine.benchmark.host_memory import available_memory, extra_memory
from detector.engine.fitting import largest_that_fits, release_memory

HOST_SHARE: Final = 0.8
"""Part of the host's available memory that is counted on; the rest is for loaders, files and other programs. A host
that runs out swaps or kills, so nothing beyond this part is tried."""

MAX_IMAGES: Final = 1024
_LADDER: Final = sorted([2**k for k in range(11)] + [3 * 2**k for k in range(9)])
"""1, 2, 3, 4, 6, 8, 12, ... up to MAX_IMAGES: numbers of images that are tried."""

Step = Callable[[int], object]
"""Makes a training step with n images of the largest shape that the data can give."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How many images fit.

    Attributes:
        largest: n; 0 = not even one image.
        is_tried: whether a step of so many images was made; else it follows from smaller ones.
        bytes_per_image: that each further image takes.
        budget: bytes that were there for a step's activations and gradients.
    """

    largest: int
    is_tried: bool
    bytes_per_image: int
    budget: int


def fit_on_gpu(try_step: Step, device: torch.device) -> Fit:
    """Search for the largest n of 1, 2, 3, 4, 6, 8, 12, ... whose step fits into what is free of the GPU.

    Args:
        try_step: the step. Weights and optimiser state must be there already.
        device: the GPU.
    """
    release_memory()
    free, _ = torch.cuda.mem_get_info(device)
    budget = free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    peaks: dict[int, int] = {}

    def measured(n: int) -> None:
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        try_step(n)
        synchronize(device)
        peaks[n] = torch.cuda.max_memory_allocated(device) - before

    if largest_that_fits([1, 2], measured) is None:
        return Fit(0, True, 0, budget)
    if 1 not in peaks:
        measured(1)
    per_image = max(1, peaks.get(2, 2 * peaks[1]) - peaks[1])
    # The line is nearly straight; half as much again leaves room for what it bends.
    upper = 1.5 * budget / per_image + 1
    largest = largest_that_fits([n for n in _LADDER if n <= max(2, upper)], measured)
    return Fit(largest or 1, True, per_image, budget)


def fit_on_host(try_step: Step) -> Fit | None:
    """Work out the largest n from steps with few images, none of which takes more than is safe.

    Args:
        try_step: the step. Weights and optimiser state must be there already.

    Returns:
        The estimate; None where the system does not tell its memory.
    """
    available, one = available_memory(), extra_memory(lambda: try_step(1))
    if available is None or one is None:
        return None
    budget = int(HOST_SHARE * available)
    if 2 * one > budget:  # two images take less than twice as much as one
        return Fit(int(one <= budget), True, one, budget)
    two = extra_memory(lambda: try_step(2))
    assert two is not None  # the system told it a moment ago
    per_image = max(1, two - one)
    four = 2 * per_image + two
    if four <= budget and (measured := extra_memory(lambda: try_step(4))) is not None:
        # Over a longer stretch, and never less than the shorter one's: rather too few than too many.
        per_image = max(per_image, (measured - one) // 3)
    return Fit(min(MAX_IMAGES, 1 + (budget - one) // per_image), False, per_image, budget)
