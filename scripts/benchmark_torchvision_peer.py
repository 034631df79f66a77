"""torchvision's RetinaNet as one of our configurations describes it: the peer of benchmark_against_torchvision.py.

Its losses, matching, normalisation, batching and postprocessing are torchvision's own, untouched. Replaced are only
the anchors (by ours, which are not rounded), the resize (images come resized) and the initial weights (ours, copied).
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchvisionAnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.anchors import AnchorGenerator, build_anchor_generator
from detector.config import Config
from detector.data.normalize import IMAGENET_MEAN, IMAGENET_STD
from detector.engine.device import ResolvedPrecision, autocast
from detector.engine.optimizer import masked_step
from detector.errors import UserError
from detector.models import RetinaNet
from detector.models.build import resolve_backbone
from detector.structures import Batch, Detections

NUM_CONVS = 4
"""Convolutions of torchvision's subnets before the last; it knows no other number."""

Inputs = tuple[list[Tensor], list[dict[str, Tensor]]]

_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^backbone\.", "backbone.body."),
    (r"^fpn\.lateral\.(\d)", r"backbone.fpn.inner_blocks.\1.0"),
    (r"^fpn\.output\.(\d)", r"backbone.fpn.layer_blocks.\1.0"),
    (r"^fpn\.(p[67])", r"backbone.fpn.extra_blocks.\1"),
    (r"^cls_subnet\.last", "head.classification_head.cls_logits"),
    (r"^box_subnet\.last", "head.regression_head.bbox_reg"),
    (r"^cls_subnet\.convs\.(\d)", lambda m: f"head.classification_head.conv.{int(m[1]) // 2}.0"),
    (r"^box_subnet\.convs\.(\d)", lambda m: f"head.regression_head.conv.{int(m[1]) // 2}.0"),
)
"""Our parameters' names and torchvision's: ReLUs sit between our subnets' convolutions, inside torchvision's."""


def check_comparable(config: Config, precision: ResolvedPrecision) -> None:
    """Refuse a recipe that torchvision's RetinaNet cannot follow.

    Raises:
        UserError: naming every such key, what was found and what is needed.
    """
    model, cls, box = config.model, config.loss.cls, config.loss.box
    norm, frozen_stages = resolve_backbone(model.backbone)
    one_forward = config.data.images_per_forward in ("auto", config.data.batch_size)
    is_l1 = box.name == "l1" or (box.name == "smooth_l1" and box.beta == 0)
    conditions = (
        ("model.backbone.norm", norm, "batch", norm == "batch"),
        ("model.backbone.frozen_stages", frozen_stages, 0, frozen_stages == 0),
        ("model.head.num_convs", model.head.num_convs, NUM_CONVS, model.head.num_convs == NUM_CONVS),
        ("model.head.norm", model.head.norm, "none", model.head.norm == "none"),
        ("model.head.activation", model.head.activation, "sigmoid", model.head.activation == "sigmoid"),
        ("assign.allow_low_quality_matches", "false", "true", config.assign.allow_low_quality_matches),
        ("loss.cls.name", cls.name, "sigmoid_focal", cls.name == "sigmoid_focal"),
        ("loss.cls.alpha", cls.alpha, 0.25, cls.alpha == 0.25),
        ("loss.cls.gamma", cls.gamma, 2, cls.gamma == 2),
        ("loss.box", f"{box.name} with beta {box.beta}", "l1, or smooth_l1 with beta 0", is_l1),
        ("loss.box.weight", box.weight, 1, box.weight == 1),
        ("data.images_per_forward", config.data.images_per_forward, "the whole batch", one_forward),
        ("data.buckets", "shapes", "null", config.data.buckets is None),
        ("ema.decay", config.ema.decay, "null", config.ema.decay is None),
        ("precision", precision, "fp32 or bf16", precision != "fp16"),
    )
    problems = [f"{key}: expected {needed}, found {found}" for key, found, needed, ok in conditions if not ok]
    if problems:
        raise UserError("torchvision's RetinaNet cannot follow this recipe:\n" + "\n".join(problems))


class OurAnchors(TorchvisionAnchorGenerator):
    """Our anchors in torchvision's model; float32 also under autocast, where its own would be of half precision."""

    def __init__(self, ours: AnchorGenerator) -> None:
        super().__init__(sizes=((1,),) * len(ours.strides), aspect_ratios=((1.0,),) * len(ours.strides))
        self.ours = ours

    def num_anchors_per_location(self) -> list[int]:
        return [self.ours.num_per_cell] * len(self.ours.strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        shapes = [(feature.shape[-2], feature.shape[-1]) for feature in feature_maps]
        return [self.ours(shapes, image_list.tensors.device)] * len(image_list.image_sizes)


class NoResize(GeneralizedRCNNTransform):
    """torchvision's normalisation and batching of images that have their size already."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def build_peer(config: Config, ours: RetinaNet) -> TorchvisionRetinaNet:
    """Return torchvision's network with the weights and norm statistics of ours, on the CPU, in training mode."""
    model = config.model
    in_channels = list(ours.backbone.out_channels)
    p6_p7 = LastLevelP6P7(in_channels[-1] if model.fpn.p6_from == "c5" else model.fpn.channels, model.fpn.channels)
    p6_p7.use_P5 = model.fpn.p6_from == "p5"  # which torchvision guesses from the numbers of channels
    backbone = BackboneWithFPN(
        get_model(model.backbone.name, weights=None, norm_layer=nn.BatchNorm2d),
        {"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels,
        model.fpn.channels,
        p6_p7,
    )
    peer = TorchvisionRetinaNet(
        backbone,
        num_classes=ours.num_classes,
        anchor_generator=OurAnchors(build_anchor_generator(model.anchors)),
        fg_iou_thresh=config.assign.fg_iou_thresh,
        bg_iou_thresh=config.assign.bg_iou_thresh,
        score_thresh=config.eval.score_thresh,
        nms_thresh=config.eval.nms_thresh,
        topk_candidates=config.eval.topk_per_level,
        detections_per_img=config.eval.max_detections,
    )
    # The sides are of no use without the resize.
    peer.transform = NoResize(1, 1, list(IMAGENET_MEAN), list(IMAGENET_STD), size_divisible=config.data.pad_multiple)
    peer.load_state_dict({torchvision_name(key): value for key, value in ours.state_dict().items()})
    return peer.train()


def torchvision_name(name: str) -> str:
    """Return what torchvision calls a parameter or buffer of ours."""
    for pattern, replacement in _NAMES:
        name, num_replaced = re.subn(pattern, replacement, name)
        if num_replaced:
            break
    return name


def peer_inputs(batch: Batch) -> Inputs:
    """Return images [3, H, W] in [0, 1], cropped to their sizes, and targets, as torchvision's users load them."""
    sizes = batch.sizes.tolist()
    images = [
        image[:height, :width].permute(2, 0, 1).contiguous().float() / 255
        for image, (height, width) in zip(batch.images, sizes, strict=True)
    ]
    rows = zip(batch.gt_boxes, batch.gt_labels, batch.gt_mask, strict=True)
    return images, [{"boxes": boxes[mask], "labels": labels[mask]} for boxes, labels, mask in rows]


class PeerStepper:
    """Makes optimiser steps as torchvision's reference script does: losses under autocast, backward, clip, update."""

    def __init__(
        self,
        model: TorchvisionRetinaNet,
        optimizer: torch.optim.Optimizer,
        *,
        precision: ResolvedPrecision,
        clip_grad_norm: float | None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.precision = precision
        self.clip_grad_norm = clip_grad_norm

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the class and the box loss, 0-dim, on the device."""
        images, targets = inputs
        device = images[0].device
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.precision, device):
            losses = self.model(images, targets)
        sum(losses.values()).backward()
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        # Which guards against fused kernels that mistake a gradient's memory layout.
        masked_step(self.optimizer, torch.ones((), dtype=torch.bool, device=device))
        return losses["classification"].detach(), losses["bbox_regression"].detach()


@torch.inference_mode()
def detect(model: TorchvisionRetinaNet, batch: Batch, precision: ResolvedPrecision) -> list[Detections]:
    """Return the detections of a batch by a model in evaluation mode, on the CPU, in original pixels."""
    images, _ = peer_inputs(batch)
    with autocast(precision, batch.images.device):
        found = model(images)
    return [
        Detections(
            resize_boxes(one["boxes"].float(), (int(size[0]), int(size[1])), original_size),
            one["scores"].float(),
            one["labels"],
        ).to("cpu")
        for one, size, original_size in zip(found, batch.sizes.tolist(), batch.original_sizes, strict=True)
    ]
