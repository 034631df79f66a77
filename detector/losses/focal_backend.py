"""Which implementation computes the fused focal loss: plain torch operations everywhere, or Triton on a CUDA device."""

import importlib.util
import os
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from detector.losses.focal_eager import EAGER
from detector.losses.focal_form import FocalKernels

FocalBackend = Literal["auto", "eager", "triton"]
"""auto: triton where it can compute, else eager."""

_TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def focal_kernels(backend: FocalBackend, cls_logits: Tensor) -> FocalKernels:
    """Return the implementation for such logits.

    Raises:
        ValueError: if ``triton`` is asked for and cannot compute them.
    """
    if backend == "eager":
        return EAGER
    hindrance = _triton_hindrance(cls_logits.device, cls_logits.dtype)
    if hindrance is None:
        from detector.losses.focal_triton import TRITON

        return TRITON
    if backend == "triton":
        raise ValueError(f"the triton backend of the focal loss cannot be used: {hindrance}")
    return EAGER


def triton_hindrance(device: torch.device) -> str | None:
    """Return why Triton cannot compute on a device, or None if it can."""
    if not _has_triton():
        return "triton is not installed"
    if device.type != "cuda" and not _interprets():
        return f"it needs a CUDA device, found {device.type}"
    return None


def _triton_hindrance(device: torch.device, dtype: torch.dtype) -> str | None:
    if dtype not in _TRITON_TYPES:
        return f"it takes float32, bfloat16 or float16, found {dtype}"
    if device.type == "cpu" and not _interprets():
        return f"it needs a CUDA device, found {device.type}"
    return triton_hindrance(device)


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interprets() -> bool:
    """Return whether Triton's interpreter runs kernels on the CPU, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"
