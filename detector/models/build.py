"""The network that a configuration describes."""

import torch

from detector.config import BackboneConfig, ModelConfig
from detector.models.backbone import ResNetBackbone
from detector.models.fpn import FeaturePyramid
from detector.models.heads import Subnet, initial_cls_bias
from detector.models.norm import NormName
from detector.models.retinanet import RetinaNet
from detector.models.weights import load_backbone_weights


def build_model(config: ModelConfig, num_classes: int, *, load_weights: bool = True) -> RetinaNet:
    """Build RetinaNet on the CPU, in channels-last memory.

    Args:
        config: ``model`` of the configuration.
        num_classes: K, real classes without background.
        load_weights: False leaves the backbone random, for a checkpoint to fill.

    Returns:
        The network in training mode; random weights come from torch's global generator.

    Raises:
        UserError: if pretrained weights cannot be had.
        ValueError: if there are no classes.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    norm, frozen_stages = resolve_backbone(config.backbone)
    backbone = ResNetBackbone(config.backbone.name, norm=norm, frozen_stages=frozen_stages)
    if load_weights and config.backbone.pretrained:
        load_backbone_weights(backbone, config.backbone.name, config.backbone.weights)
    fpn = FeaturePyramid(backbone.out_channels, config.fpn.channels, config.fpn.p6_from)
    cls_bias = initial_cls_bias(num_classes, config.head.prior, config.head.activation)
    subnets = [
        Subnet(
            config.fpn.channels,
            num_convs=config.head.num_convs,
            num_anchors=config.anchors.num_per_cell,
            num_outputs=num_outputs,
            norm=config.head.norm,
            last_bias=last_bias,
        )
        for num_outputs, last_bias in ((len(cls_bias), cls_bias), (4, 0.0))
    ]
    model = RetinaNet(backbone, fpn, *subnets, activation=config.head.activation)
    return model.to(memory_format=torch.channels_last)


def resolve_backbone(config: BackboneConfig) -> tuple[NormName, int]:
    """Return the norm and the number of frozen stages, with ``auto`` decided: by whether the weights are pretrained."""
    norm: NormName = ("frozen" if config.pretrained else "batch") if config.norm == "auto" else config.norm
    automatic_stages = 2 if config.pretrained else 0
    return norm, automatic_stages if config.frozen_stages == "auto" else config.frozen_stages
