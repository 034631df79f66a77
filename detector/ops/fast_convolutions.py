"""Convolutions of the network by the fastest way that a CPU has for them.

oneDNN's direct convolutions run at 85 % of an AVX2 core's peak (benchmarks/train_step.md), so only fewer
multiplications make a step of training shorter: :mod:`detector.ops.winograd`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detector.ops.winograd import num_tiles, transform_weight, winograd_conv2d

MIN_CHANNELS: Final = 64
"""Below it, in or out, the transforms cost more than the multiplications that they save."""

MIN_TILES: Final = 64
"""Below it, transforming the weights costs more than is saved."""

MIN_PRODUCTS: Final = 2**20
"""Tiles x channels in x channels out, below which the calls cost more than is saved: forward and backward on one core
with AVX2, 64 channels are even at 250 tiles."""

MIN_TILES_TRANSFORMED: Final = 16
"""MIN_TILES for weights that another input has already made transform ..."""

MIN_PRODUCTS_TRANSFORMED: Final = 2**19
"""... and MIN_PRODUCTS: there 64 channels gain a quarter at 128 tiles, and lose as much at 64."""


class FastConvolutions(TorchFunctionMode):
    """A context in which float32 convolutions on a CPU that Winograd's algorithm makes faster are computed by it.

    For one forward pass: weights that serve several inputs (the subnets', on every level) are transformed once and kept
    until the context ends. What is entered and left, and what the context does not know, stays as it is: names and
    modules of the network, other devices and types, autocast.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transformed: dict[
            tuple[int, bool], tuple[Tensor, Tensor]
        ] = {}  # with the weight, which keeps its id from reuse

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute ``func``, a convolution the fast way where that is faster."""
        if func is torch.conv2d and not kwargs and self._is_faster(*args):
            x, weight, bias, *_ = args
            return winograd_conv2d(x, self._transform(weight), bias)
        return func(*args, **(kwargs or {}))

    def _is_faster(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> bool:
        if x.device.type != "cpu" or x.dtype != torch.float32 or weight.shape[2:] != (3, 3):
            return False
        ones = (1, (1, 1), [1, 1])
        if stride not in ones or padding not in ones or dilation not in ones or groups != 1:
            return False
        if _key(weight) in self._transformed:
            fewest, least = MIN_TILES_TRANSFORMED, MIN_PRODUCTS_TRANSFORMED
        else:
            fewest, least = MIN_TILES, MIN_PRODUCTS
        tiles, (out_channels, in_channels) = num_tiles(x.shape[0], x.shape[2], x.shape[3]), weight.shape[:2]
        is_wide = min(in_channels, out_channels) >= MIN_CHANNELS
        return is_wide and tiles >= fewest and tiles * in_channels * out_channels >= least

    def _transform(self, weight: Tensor) -> Tensor:
        key = _key(weight)
        if key not in self._transformed:
            self._transformed[key] = weight, transform_weight(weight)
        return self._transformed[key][1]


def _key(weight: Tensor) -> tuple[int, bool]:
    """Return what tells transformed weights apart: those made without gradients would cut a later graph off."""
    return id(weight), torch.is_grad_enabled()
