"""Made-up images, boxes and networks to measure on. Letters: N images, M boxes of one image."""

import torch
from torch import Tensor, nn

from detector.structures import Batch


def random_boxes(num_images: int, num_boxes: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return boxes [N, M, 4], float32 xyxy, of 16 pixels to about a third of an image of ``size`` (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    limits = torch.tensor([width, height], dtype=torch.float32)
    corner = torch.rand(num_images, num_boxes, 2, generator=generator) * limits * 0.6
    side = 16 + torch.rand(num_images, num_boxes, 2, generator=generator) * (limits * 0.4 - 16).clamp(min=0)
    return torch.cat((corner, corner + side), dim=2)


def random_batch(
    num_images: int, size: tuple[int, int], *, num_classes: int = 80, num_boxes: int = 10, seed: int = 0
) -> Batch:
    """Return a batch of noise with random objects, on the host.

    Args:
        num_images: N.
        size: (height, width) of all images; nothing is padded.
        num_classes: labels are in [0, num_classes).
        num_boxes: objects of every image.
        seed: decides everything.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    return Batch(
        images=torch.randint(0, 256, (num_images, height, width, 3), dtype=torch.uint8, generator=generator),
        sizes=torch.tensor([size] * num_images),
        gt_boxes=random_boxes(num_images, num_boxes, size, seed),
        gt_labels=torch.randint(0, num_classes, (num_images, num_boxes), generator=generator),
        gt_mask=torch.ones(num_images, num_boxes, dtype=torch.bool),
        gt_ignore=torch.zeros(num_images, num_boxes, dtype=torch.bool),
        image_ids=tuple(range(num_images)),
        original_sizes=(size,) * num_images,
    )


def calm_frozen_norms(model: nn.Module) -> None:
    """Scale a network's frozen norms down: random convolutions would double the activations in every block."""
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":  # ours and torchvision's
            module.weight.fill_(0.5)
