"""A lack of memory in words: what was in it, and what to change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from detector.config import Config
from detector.engine.fitting import divisors, is_out_of_memory
from detector.errors import ResourceError
from detector.structures import Batch


@contextmanager
def explained_out_of_memory(
    step: int, batches: Sequence[Batch], config: Config, device: torch.device
) -> Iterator[None]:
    """Turn a lack of memory in a training step into a message with the batch and what to change.

    Args:
        step: number of the step, from 1.
        batches: its micro-batches in this process.
        config: of the run.
        device: where it runs.

    Raises:
        ResourceError: in place of the error that says so.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(_describe(step, batches, config, device, error)) from None


def _describe(step: int, batches: Sequence[Batch], config: Config, device: torch.device, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    lines = [f"out of memory in step {step} on {device}{_usage(device)}: {reason[:300]}"]
    for idx, batch in enumerate(batches):
        num, height, width = batch.images.shape[:3]
        num_boxes = (batch.gt_mask | batch.gt_ignore).sum(dim=1).tolist()
        lines.append(
            f"  forward pass {idx + 1} of {len(batches)}: {num} images padded to {height} x {width}; image ids "
            f"{list(batch.image_ids)}, sizes {batch.sizes.tolist()}, boxes {num_boxes}"
        )
    return "\n".join([*lines, f"What to change: {_advice(batches, config, device)}"])


def _usage(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    return f" (at most {peak / 2**30:.1f} of {total / 2**30:.1f} GiB were in use by tensors)"


def _advice(batches: Sequence[Batch], config: Config, device: torch.device) -> str:
    per_forward = len(batches[0].image_ids)
    parts = []
    if per_forward > 1:
        fewer = divisors(per_forward)[-2]
        parts.append(
            f"data.images_per_forward={fewer}, which changes nothing but rounding, and with trained batch norm the "
            f"batches that it sees (data.batch_size stays {config.data.batch_size})"
        )
    if device.type == "cuda" and config.precision == "fp32":
        parts.append("precision=bf16")
    parts.append("a lower data.short_side and data.max_side")
    if device.type == "cpu":
        parts.append("a lower data.num_workers")
    return "; ".join([*parts, "then continue with --resume --allow-changes"])
