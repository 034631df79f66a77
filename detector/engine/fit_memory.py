"""How many images one forward pass takes where the configuration says ``auto``: as many as the GPU has memory for."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from detector.config import Config
from detector.data.annotations import AnnotationTable
from detector.data.largest_batch import LargestBatch, build_largest_batch
from detector.data.samplers import split_batch
from detector.engine.fitting import divisors, largest_that_fits
from detector.engine.processes import Processes
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.errors import ResourceError
from detector.structures import Batch

MEMORY_SHARE: Final = 0.95
"""Share of the GPU's memory that must be enough: what is left is for fragments and for libraries' workspaces."""

NUM_STEPS: Final = 2
"""Steps of a try: AdamW makes its moments in the first, and the second needs them beside the activations."""

TrySteps = Callable[[int], None]
"""Makes steps with so many images a forward pass, and may run out of memory."""


def settle_images_per_forward(
    config: Config,
    table: AnnotationTable,
    state: TrainState,
    make_stepper: Callable[[], Stepper],
    device: torch.device,
    processes: Processes,
) -> tuple[Config, list[str]]:
    """Put a number in place of ``data.images_per_forward = auto`` if a process's share of the batch does not fit.

    Where it fits, and on a CPU, ``auto`` stays and means that share. The batch of a step is the same in any case: what
    does not fit at once is accumulated. For new runs only: one that continues keeps what it began with.

    Args:
        config: of a new run.
        table: annotations to learn from.
        state: of the run; as it was, afterwards.
        make_stepper: returns what makes steps of this process alone.
        device: where it runs.
        processes: who shares the run; the one with the least memory decides.

    Returns:
        The configuration, and a note where something was tried.

    Raises:
        ResourceError: not even one image fits.
    """
    share, _ = split_batch(config.data.batch_size, config.data.images_per_forward, processes.num_processes)
    if config.data.images_per_forward != "auto" or device.type != "cuda":
        return config, []
    largest = build_largest_batch(config.data, table)
    before = _to_host(state.to_checkpoint("", table.categories))
    torch.cuda.set_per_process_memory_fraction(MEMORY_SHARE, device)
    try:
        found = largest_that_fits(divisors(share), try_steps(make_stepper(), largest, share, device))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        state.optimizer.zero_grad(set_to_none=True)
        state.load_checkpoint(before, "the state before the try", table.categories)
    return choose(config, share, processes.gather_all(found), largest)


def try_steps(stepper: Stepper, largest: LargestBatch, share: int, device: torch.device) -> TrySteps:
    """Return what makes steps of ``share`` images of the largest shape, accumulated over forward passes."""

    def make_steps(images_per_forward: int) -> None:
        num_forwards = share // images_per_forward
        batches: list[Batch] = [largest.make(images_per_forward, seed).to(device) for seed in range(num_forwards)]
        for _ in range(NUM_STEPS):
            stepper(batches)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return make_steps


def choose(config: Config, share: int, found: list[int | None], largest: LargestBatch) -> tuple[Config, list[str]]:
    """Return the configuration with the smallest number that the processes have found, and a note.

    Args:
        config: with ``auto``.
        share: images of a step that are one process's.
        found: of each process; None where not even one image fits.
        largest: what was tried.

    Raises:
        ResourceError: not even one image fits.
    """
    numbers = [number for number in found if number is not None]
    height, width = largest.size
    tried = f"{height} x {width} pixels with {largest.num_boxes} boxes"
    if len(numbers) < len(found):
        raise ResourceError(
            f"out of memory: a training step does not even fit with one image ({tried}) a forward pass. Use "
            "precision=bf16, lower data.short_side and data.max_side, or choose a smaller model.backbone.name"
        )
    number = min(numbers)
    text = f"data.images_per_forward = auto: {number} images of up to {tried} fit into the memory"
    if number == share:
        return config, [f"{text}, all of a process's share"]
    data = config.data.model_copy(update={"images_per_forward": number})
    note = f"{text}; the gradients of {share // number} forward passes are added up, and the batch stays the same"
    return config.model_copy(update={"data": data}), [note]


def _to_host(value: Any) -> Any:
    """Return a copy of a checkpoint's content with its tensors on the CPU."""
    match value:
        case Tensor():
            return value.detach().cpu().clone()
        case dict():
            return {key: _to_host(part) for key, part in value.items()}
        case list():
            return [_to_host(part) for part in value]
        case tuple():
            return tuple(_to_host(part) for part in value)
        case _:
            return value
