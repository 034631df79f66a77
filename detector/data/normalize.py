"""From uint8 images of the loader to what the network takes, on the device."""

from typing import Final

import torch
from torch import Tensor

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Mean of RGB values in [0, 1], as torchvision's ImageNet weights expect it."""

IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Standard deviation of RGB values in [0, 1], as torchvision's ImageNet weights expect it."""


def normalize_images(images: Tensor, sizes: Tensor) -> Tensor:
    """Subtract the ImageNet mean, divide by its standard deviation, and set the padding to exactly 0.

    The host never waits for the device, and a meta tensor gives a meta tensor.

    Args:
        images: [N, H, W, 3] uint8 RGB.
        sizes: [N, 2] int64 (height, width) in pixels that each image fills, on the device of ``images``.

    Returns:
        [N, 3, H, W] float32 in channels-last memory; 0 is the mean colour, and everything outside ``sizes`` is 0.
    """
    device = images.device
    scale = _per_channel([1 / (255 * std) for std in IMAGENET_STD], device)
    shift = _per_channel([-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], device)
    height, width = images.shape[1:3]
    outside_rows = torch.arange(height, device=device) >= sizes[:, 0, None]  # [N, H]
    outside_columns = torch.arange(width, device=device) >= sizes[:, 1, None]  # [N, W]
    outside = outside_rows[:, :, None] | outside_columns[:, None, :]  # [N, H, W]
    normalized = (images * scale + shift).masked_fill_(outside[..., None], 0.0)
    return normalized.permute(0, 3, 1, 2)  # the memory stays as it is, and that is channels-last


def _per_channel(values: list[float], device: torch.device) -> Tensor:
    """[C] float32, filled by kernels: a copy from the host would make it wait for the device."""
    tensor = torch.empty(len(values), device=device)
    for channel, value in enumerate(values):
        tensor[channel].fill_(value)
    return tensor
