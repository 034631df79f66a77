"""Copies of tensors in host memory, made quickly because the memory is kept from one to the next."""

from typing import Any

import torch
from torch import Tensor


class HostCopier:
    """Copies nested dicts, lists and tuples with tensors in them into host memory of its own.

    The memory is allocated once: page-locked where the tensors are on a GPU, which then sends them at full speed.
    A copy is valid until the next one is made.
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._num_used = 0

    def __call__(self, content: Any) -> Any:
        """Return the content with every tensor copied, in the layout that it has; other values are shared."""
        self._num_used = 0
        copy = self._copy(content)
        if any(buffer.is_pinned() for buffer in self._buffers):
            torch.cuda.current_stream().synchronize()  # copies into page-locked memory do not wait
        return copy

    def _copy(self, value: Any) -> Any:
        match value:
            case Tensor():
                return self._buffer_like(value).copy_(value.detach(), non_blocking=True)
            case dict():
                return {key: self._copy(part) for key, part in value.items()}
            case list():
                return [self._copy(part) for part in value]
            case tuple():
                return tuple(self._copy(part) for part in value)
            case _:
                return value

    def _buffer_like(self, tensor: Tensor) -> Tensor:
        """Return the next buffer, made anew if the one of the last time does not fit."""
        idx, self._num_used = self._num_used, self._num_used + 1
        if idx == len(self._buffers):
            self._buffers.append(torch.empty(0))
        found = self._buffers[idx]
        if (found.shape, found.dtype, found.stride()) != (tensor.shape, tensor.dtype, tensor.stride()):
            # Strides too: momentum is read in the order of memory, see masked_step.
            buffer = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
            self._buffers[idx] = buffer
        return self._buffers[idx]
