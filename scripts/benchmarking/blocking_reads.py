"""Where the host reads a tensor's values, and so would wait for a GPU; found without one."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detector.losses import focal_slices

_READING_OPERATORS = (
    "_local_scalar_dense",  # item, float(), bool()
    "nonzero",
    "masked_select",
    "is_nonzero",
    "unique",
    "_unique",
    "equal.",
    "bincount",
    "repeat_interleave.Tensor",
    "allclose",
)
"""Operators that read values on the host, or whose result has a size that depends on values."""

_READING_METHODS = ("tolist", "numpy", "cpu")
"""Methods that do so without an operator where the tensor is on the CPU already."""


def blocking_reads(function: Callable[[], object]) -> list[str]:
    """Return the reads of a call in order, backward passes included, each as ``operation (file:line)``.

    What only a GPU does (a copy to the device from memory that is not pinned) is not found here:
    ``torch.cuda.set_sync_debug_mode`` finds that.
    """
    reads: list[str] = []
    with _noticed_methods(reads), _Operators(reads):
        function()
    return reads


def as_on_a_device() -> AbstractContextManager[object]:
    """Return a context in which the eager focal loss computes on a CPU what it would on an accelerator."""
    return patch.object(focal_slices, "may_read", lambda _: False)


class _Operators(TorchDispatchMode):
    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        has_mask = name.startswith("index") and any(
            isinstance(idx, Tensor) and idx.dtype in (torch.bool, torch.uint8) for idx in tree_leaves(args[1:2])
        )
        # The mask of masked_fill and of where reads nothing; the name of a reading operator is its beginning.
        if has_mask or name.startswith(_READING_OPERATORS):
            self.reads.append(f"{name}{' with a mask' if has_mask else ''} ({_caller()})")
        return func(*args, **(kwargs or {}))


@contextmanager
def _noticed_methods(reads: list[str]) -> Iterator[None]:
    """Replace the methods for a while: torch's own modes are not asked about those that a backward pass calls."""
    with ExitStack() as stack:
        for name in (*_READING_METHODS, "to"):
            stack.enter_context(patch.object(Tensor, name, _noticed(name, reads)))
        yield


def _noticed(name: str, reads: list[str]) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        # A device as an object is mostly that of another tensor, which here happens to be the CPU.
        is_copy = "cpu" in (value for value in (*args[:1], kwargs.get("device")) if isinstance(value, str))
        if name != "to" or is_copy:
            reads.append(f"{name} ({_caller()})")
        return method(tensor, *args, **kwargs)

    return call


def _caller() -> str:
    """Return the innermost line outside torch and this file."""
    skipped = (str(Path(torch.__file__).parent), __file__)
    frames = [frame for frame in traceback.extract_stack(sys._getframe()) if not frame.filename.startswith(skipped)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
