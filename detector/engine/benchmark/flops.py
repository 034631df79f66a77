"""How much a training step computes, counted without computing it."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.config import ModelConfig
from detector.engine.forward import forward
from detector.models import RetinaNet, build_model


def build_meta_network(config: ModelConfig, num_classes: int) -> RetinaNet:
    """Return the network that a configuration trains, as shapes without numbers."""
    return build_model(config, num_classes, load_weights=False).to("meta").train()


def count_training_flops(meta_network: RetinaNet, shape: tuple[int, int, int]) -> int:
    """Return the floating point operations of one forward and backward pass: of convolutions and matrix products.

    Two for a multiplication with its addition, as torch's counter has it. Elementwise work, the losses and the
    optimiser count for nothing. Frozen layers count as what they save: no gradient.

    Args:
        meta_network: from :func:`build_meta_network`; its gradients are changed.
        shape: (images, height, width) of the padded batch.
    """
    num_images, height, width = shape
    images = torch.zeros(num_images, height, width, 3, dtype=torch.uint8, device="meta")
    sizes = torch.zeros(num_images, 2, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        outputs = forward(meta_network, images, sizes, "fp32")
        sums = [level.sum() for level in (*outputs.cls_logits, *outputs.bbox_deltas)]
        torch.stack(sums).sum().backward()
    return int(counter.get_total_flops())
