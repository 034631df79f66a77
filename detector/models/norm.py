"""Normalisation layers of the backbone."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormName = Literal["frozen", "batch", "sync", "group"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and affine parameters never change.

    The names match ``nn.BatchNorm2d``, so its weights load. In mixed precision the activation stays in its half type
    while the arithmetic is float32 (torchvision's module of this name promotes it to float32).

    Attributes:
        is_folded: whether the convolution before it applies it already (:mod:`detector.models.folding`); the forward
            pass then changes nothing.

    Args:
        num_features: C.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.is_folded = False
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W] (x - mean) / sqrt(var + eps) * weight + bias; ``x`` itself where that is folded."""
        if self.is_folded:
            return x
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return [C] scale and [C] shift with forward(x) = x * scale + shift."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


def group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with 32 groups (Wu and He 2018), or as many of two channels or more as divide the channels.

    A group of one channel would be a single value on a level of one cell, whose normalisation says nothing (and which
    torch refuses for a single image).
    """
    most = max(1, min(32, channels // 2))
    num_groups = next(groups for groups in range(most, 0, -1) if channels % groups == 0)
    return nn.GroupNorm(num_groups, channels)


def make_norm_layer(name: NormName) -> Callable[[int], nn.Module]:
    """Return the constructor (channels -> layer) that torchvision's ResNet takes."""
    match name:
        case "frozen":
            return FrozenBatchNorm2d
        case "batch":
            return nn.BatchNorm2d
        case "sync":
            return nn.SyncBatchNorm
        case "group":
            return partial(group_norm)
