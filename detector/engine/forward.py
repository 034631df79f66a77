"""The network on a batch as it comes from the loader."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from detector.data.normalize import normalize_images
from detector.engine.device import ResolvedPrecision, autocast, memory_format_for_training
from detector.ops.fast_convolutions import FastConvolutions
from detector.structures import HeadOutputs


def forward(network: nn.Module, images: Tensor, sizes: Tensor, precision: ResolvedPrecision) -> HeadOutputs:
    """Return the raw outputs for uint8 images [N, H, W, 3] that fill ``sizes`` [N, 2]."""
    normalized = normalize_images(images, sizes)
    if network.training:
        normalized = normalized.contiguous(memory_format=memory_format_for_training(images.device))
    with autocast(precision, images.device), _convolutions(network, images.device, precision):
        outputs: HeadOutputs = network(normalized)
    return outputs


def _convolutions(network: nn.Module, device: torch.device, precision: ResolvedPrecision) -> AbstractContextManager[object]:
    if network.training and device.type == "cpu" and precision == "fp32":
        return FastConvolutions()
    return nullcontext()
