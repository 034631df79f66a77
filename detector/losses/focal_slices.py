"""How the eager focal loss cuts logits into slices that stay in the processor's cache, and the maths of one slice.

Letters: N images, Rl anchors of a level, r of them in a slice, K classes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

_SLICE: Final = 2**17
"""Logits of a slice at least: fewer would cost more in calls than in memory. Four buffers of them are 2 MiB."""

_SLICE_OF_THREAD: Final = 2**15
"""... and for each thread, where there are many: torch gives none less than that. But ..."""

_SHARE: Final = 64
"""... no more than one of so many parts of a level, so that the buffers stay small beside the logits."""

_SLICE_ON_DEVICE: Final = 2**24
"""... and on an accelerator, where launches cost more than memory."""

_LARGEST: Final = 80.0
"""Above it softplus(z) = z in float64 too, and exp(z) is still finite in float32."""


def may_read(device: torch.device) -> bool:
    """Return whether the host may look at values: on a CPU, where nobody has to wait for them."""
    return device.type == "cpu"


class Slices:
    """How a level is cut into slices of its anchors, and memory that every slice uses again.

    Args:
        logits: [N, Rl, K].
        dtype: of the memory.
    """

    def __init__(self, logits: Tensor, dtype: torch.dtype) -> None:
        num_images, num_rows, num_classes = logits.shape
        for_threads = min(_SLICE_OF_THREAD * torch.get_num_threads(), logits.numel() // _SHARE)
        in_cache = max(_SLICE, for_threads)
        size = in_cache if may_read(logits.device) else _SLICE_ON_DEVICE
        self.num_rows = max(1, min(num_rows, size // max(1, num_images * num_classes)))
        self.num_anchors = num_images * self.num_rows
        self._new_buffer = partial(
            torch.empty, (num_images, self.num_rows, num_classes), dtype=dtype, device=logits.device
        )
        self._buffers: dict[int, Tensor] = {}

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return the slices of a tensor [N, Rl] or [N, Rl, K]; the last one may have fewer anchors."""
        parts: tuple[Tensor, ...] = tensor.split(self.num_rows, dim=1)
        return parts

    def buffer(self, idx: int, slice_: Tensor) -> Tensor:
        """Return one of the buffers with the shape of a slice of logits; what it holds means nothing."""
        if idx not in self._buffers:
            self._buffers[idx] = self._new_buffer()
        num_rows = slice_.shape[1]
        return self._buffers[idx] if num_rows == self.num_rows else self._buffers[idx][:, :num_rows]


def write_terms(z: Tensor, weight: float | Tensor, gamma: float, buffers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return f(z) and f'(z) of :mod:`detector.losses.focal_eager`, written into two of three buffers like ``z``."""
    p, softplus, slope = buffers
    torch.clamp_max(z, _LARGEST, out=p).exp_()
    torch.log1p(p, out=softplus)
    torch.add(p, 1, out=slope)
    p.div_(slope)
    torch.div(softplus, slope, out=slope)  # (1 - p) s, before the next line: 0 where s is huge
    torch.maximum(softplus, z, out=softplus)
    torch.add(p, slope, alpha=gamma, out=slope)
    # p^gamma by log p = z - s, where a product does not do.
    modulation = p.mul_(p) if gamma == 2 else torch.sub(z, softplus, out=p).mul_(gamma).exp_()
    modulation.mul_(weight)
    return softplus.mul_(modulation), slope.mul_(modulation)
