"""The one rule for reduced precision: losses and boxes are computed in float32 or better."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 tensors as float32 and any other tensor as it is (float64 stays exact)."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
