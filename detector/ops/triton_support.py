"""Whether Triton kernels can run on a device."""

import importlib.util
import os
from functools import cache

import torch


def triton_hindrance(device: torch.device) -> str | None:
    """Return why Triton cannot compute on a device, or None if it can: on CUDA, and in its interpreter on a CPU."""
    if not _has_triton():
        return "triton is not installed"
    interprets = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not interprets:
        return f"it needs a CUDA device, found {device.type}"
    return None


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
