"""What the machine can do at best, measured: figures are shares of it, not of a data sheet."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch.nn import functional

from detector.engine.device import ResolvedPrecision

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

COPY_BYTES: Final = {"cpu": 256 * 2**20, "cuda": 2 * 2**30}
"""Bytes of the source: several times the largest caches."""

MATMUL_SIZE: Final = {"cpu": 1536, "cuda": 8192}
"""Rows and columns: large enough that what surrounds the product takes no time, and a fraction of a second."""

CONVOLUTION_SHAPE: Final = {"cpu": (1, 256, 64, 64), "cuda": (16, 256, 100, 168)}
"""Input [N, C, H, W] of a 3 x 3 convolution from C to C channels: the heads', more than half of a RetinaNet's work.
On a GPU that of the finest level of 16 x 3 x 800 x 1344."""

_WARM_UP: Final = 3


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The best that was seen of the machine, in the settings (threads, TF32) at hand.

    Attributes:
        copy: bytes a second, reading and writing counted, of a copy from memory to memory.
        matmul: floating point operations a second of a square matrix product, by precision.
        convolution: likewise of a 3 x 3 convolution of 256 channels, forward.
    """

    copy: float
    matmul: dict[str, float] = field(default_factory=dict)
    convolution: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        rates = [
            f"{name} {what} {value / 1e9:.0f} GFLOP/s"
            for what, values in (("matrix product", self.matmul), ("convolution", self.convolution))
            for name, value in values.items()
        ]
        return ", ".join([f"ceilings: copy {self.copy / 1e9:.1f} GB/s", *rates])


def measure_ceilings(
    device: torch.device, precisions: Sequence[ResolvedPrecision] = ("fp32",), repeats: int = 7
) -> Ceilings:
    """Measure the ceilings; seconds.

    Args:
        device: what is measured.
        precisions: those that the hardware computes in itself: bf16 convolutions of a CPU that emulates it take
            minutes.
        repeats: the fastest of so many counts.
    """
    return Ceilings(
        copy=_copy_rate(device, repeats),
        matmul={name: _matmul_rate(_DTYPES[name], device, repeats) for name in precisions},
        convolution={name: _convolution_rate(_DTYPES[name], device, repeats) for name in precisions},
    )


def _copy_rate(device: torch.device, repeats: int) -> float:
    num_bytes = COPY_BYTES[device.type]
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / _fastest(lambda: target.copy_(source), device, repeats)


def _matmul_rate(dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    size = MATMUL_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * size**3 / _fastest(lambda: torch.mm(left, right, out=out), device, repeats)


@torch.no_grad()
def _convolution_rate(dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    shape = CONVOLUTION_SHAPE[device.type]
    images, channels, height, width = shape
    layout = torch.channels_last
    maps = torch.randn(shape, device=device).to(dtype=dtype, memory_format=layout)
    weight = torch.randn(channels, channels, 3, 3, device=device).to(dtype=dtype, memory_format=layout)
    flops = 2 * images * height * width * channels * channels * 9
    return flops / _fastest(lambda: functional.conv2d(maps, weight, padding=1), device, repeats)


def _fastest(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the seconds of the fastest of ``repeats`` calls."""
    seconds = []
    for _ in range(_WARM_UP + repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[_WARM_UP:])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
