"""Schema of ``model`` and ``assign``: the network, its anchors and what they are matched to."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detector.config.base import Auto, Fraction, OpenFraction, PositiveFloat, Section

FINEST_LEVEL = 3
"""The finest pyramid level is P3 ..."""

NUM_LEVELS = 5
"""... and the coarsest P7."""


class BackboneConfig(Section):
    """A torchvision ResNet."""

    name: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    """Architecture."""
    weights: str = "imagenet"
    """none | imagenet (torchvision's IMAGENET1K_V1) | imagenet_v2 | path of a state dict with torchvision's names."""
    norm: Literal["auto", "frozen", "batch", "sync", "group"] = "auto"
    """Normalisation layers; auto = frozen when pretrained, batch when from scratch."""
    frozen_stages: Auto | Annotated[int, Field(ge=0, le=5)] = "auto"
    """Stages that stay as they are, counted from the stem (1 = stem, 2 = stem and layer1, ...); auto = 2 when
    pretrained, 0 when from scratch."""

    @property
    def pretrained(self) -> bool:
        """Whether the backbone starts from trained weights."""
        return self.weights != "none"


class FpnConfig(Section):
    """The feature pyramid P3 ... P7."""

    channels: Annotated[int, Field(ge=8)] = 256
    """Channels of every level and of the subnets."""
    p6_from: Literal["c5", "p5"] = "c5"
    """What the stride-64 level is computed from: C5 (paper, detectron2, mmdet) or P5 (torchvision's first version)."""


class HeadConfig(Section):
    """The class and the box subnet."""

    num_convs: Annotated[int, Field(ge=0)] = 4
    """3x3 convolutions before the last one, in each subnet."""
    norm: Literal["none", "group"] = "none"
    """Normalisation after each of them; group = GroupNorm with 32 groups (with few channels
    fewer, so that a group has at least two)."""
    prior: OpenFraction = 0.01
    """pi: the score that every anchor starts with, by the bias of the last class convolution (paper Sec. 4.1); with
    softmax the scores of the K classes together."""
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    """What makes scores of logits. sigmoid: K logits, each class for itself (paper); softmax: K + 1 logits, background
    last. `loss.cls.name` must fit."""


class AnchorConfig(Section):
    """Anchors of the levels P3 ... P7 (strides 8 ... 128)."""

    sizes: Annotated[tuple[PositiveFloat, ...], Field(min_length=NUM_LEVELS, max_length=NUM_LEVELS)] = (
        32,
        64,
        128,
        256,
        512,
    )
    """Side of the square anchor of each level in pixels of the network's input."""
    scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    """Factors on the size, within each level."""
    aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    """height / width; the area stays."""
    offset: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Centre of a cell's anchors in strides from the cell's top left corner."""

    @property
    def num_per_cell(self) -> int:
        """A, anchors per cell."""
        return len(self.scales) * len(self.aspect_ratios)


class ModelConfig(Section):
    """The network: images to raw outputs."""

    backbone: BackboneConfig = BackboneConfig()
    """ResNet."""
    fpn: FpnConfig = FpnConfig()
    """Feature pyramid."""
    head: HeadConfig = HeadConfig()
    """Subnets."""
    anchors: AnchorConfig = AnchorConfig()
    """Anchors; their number per cell shapes the last convolutions."""


class AssignConfig(Section):
    """Which anchors are foreground, background or ignored."""

    fg_iou_thresh: Fraction = 0.5
    """An anchor is foreground from this IoU with a ground truth on."""
    bg_iou_thresh: Fraction = 0.4
    """An anchor is background below this IoU with every ground truth; between the two it is ignored."""
    allow_low_quality_matches: bool = True
    """Also match the best anchors of each ground truth, whatever their IoU (if above 0)."""
    ignore_ioa_thresh: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Unmatched anchors with this much of their area in one ignore region (crowd) are ignored."""
    backend: Literal["auto", "sparse", "eager", "triton"] = "auto"
    """Who computes the overlaps, with the same result: auto takes sparse on a CPU; on a GPU triton, or else eager."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.bg_iou_thresh > self.fg_iou_thresh:
            raise ValueError(
                f"assign.bg_iou_thresh: {self.bg_iou_thresh} is above assign.fg_iou_thresh = {self.fg_iou_thresh}"
            )
        return self
