"""The network on a batch as it comes from the loader."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from detector.data.normalize import normalize_images
from detector.engine.device import ResolvedPrecision, autocast, compute_type
from detector.models import RetinaNet
from detector.models.inference import inference_copy
from detector.ops.fast_convolutions import FastConvolutions
from detector.structures import HeadOutputs

ConvolutionName = Literal["auto", "direct", "winograd"]


def forward(
    network: nn.Module,
    images: Tensor,
    sizes: Tensor,
    precision: ResolvedPrecision,
    convolution: ConvolutionName = "auto",
) -> HeadOutputs:
    """Return the raw outputs for uint8 images [N, H, W, 3] that fill ``sizes`` [N, 2].

    Args:
        network: in training or evaluation mode.
        images: as the loader gives them.
        sizes: (height, width) in pixels that each image fills.
        precision: arithmetic of the network.
        convolution: how a network in training mode computes its 3x3 convolutions on a CPU, see
            :func:`uses_winograd`. In evaluation :func:`network_for_inference` has decided.
    """
    normalized = normalize_images(images, sizes)
    is_fast = network.training and uses_winograd(convolution, images.device, precision)
    fast: AbstractContextManager[object] = FastConvolutions() if is_fast else nullcontext()
    with autocast(precision, images.device), fast:
        outputs: HeadOutputs = network(normalized)
    return outputs


def network_for_inference(
    model: RetinaNet, device: torch.device, precision: ResolvedPrecision, convolution: ConvolutionName
) -> RetinaNet:
    """Return the copy of a network that evaluates and detects, on the device; the network stays as it is."""
    winograd = uses_winograd(convolution, device, precision)
    return inference_copy(model, compute_type(precision), winograd=winograd).to(device)


def uses_winograd(convolution: ConvolutionName, device: torch.device, precision: ResolvedPrecision) -> bool:
    """Return whether a network computes its 3x3 convolutions by Winograd's algorithm (:mod:`detector.ops.winograd`).

    ``auto``: on CPUs whose widest vectors are AVX2's, the only ones on which it has been measured
    (benchmarks/train_step.md). On a GPU cuDNN chooses for itself.
    """
    if device.type != "cpu" or precision != "fp32" or convolution == "direct":
        return False
    return convolution == "winograd" or torch.backends.cpu.get_cpu_capability() == "AVX2"
