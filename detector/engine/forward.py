"""The network on a batch as it comes from the loader."""

from torch import Tensor, nn

from detector.data.normalize import normalize_images
from detector.engine.device import ResolvedPrecision, autocast, memory_format_for_training
from detector.structures import HeadOutputs


def forward(network: nn.Module, images: Tensor, sizes: Tensor, precision: ResolvedPrecision) -> HeadOutputs:
    """Return the raw outputs for uint8 images [N, H, W, 3] that fill ``sizes`` [N, 2]."""
    normalized = normalize_images(images, sizes)
    if network.training:
        normalized = normalized.contiguous(memory_format=memory_format_for_training(images.device))
    with autocast(precision, images.device):
        outputs: HeadOutputs = network(normalized)
    return outputs
