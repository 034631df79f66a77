"""Which implementation computes the fused focal loss: plain torch operations everywhere, or Triton on a CUDA device."""

from typing import Literal

import torch
from torch import Tensor

from detector.losses.focal_eager import EAGER
from detector.losses.focal_form import FocalKernels
from detector.ops.triton_support import triton_hindrance

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
    hindrance = _hindrance(cls_logits)
    if hindrance is None:
        from detector.losses.focal_triton import TRITON

        return TRITON
    if backend == "triton":
        raise ValueError(f"the triton backend of the focal loss cannot be used: {hindrance}")
    return EAGER


def _hindrance(cls_logits: Tensor) -> str | None:
    if cls_logits.dtype not in _TRITON_TYPES:
        return f"it takes float32, bfloat16 or float16, found {cls_logits.dtype}"
    return triton_hindrance(cls_logits.device)
