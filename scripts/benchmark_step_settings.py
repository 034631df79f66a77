"""The two settings of benchmark_step.py, and a step of each system in them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from benchmarking import calm_frozen_norms
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.anchors import AnchorGenerator
from detector.assign import Backend
from detector.config import BackboneConfig, FpnConfig, ModelConfig, OptimizerConfig
from detector.criterion import Criterion, LossNormalizer
from detector.engine.compilation import CompileName
from detector.engine.device import ResolvedPrecision, autocast, place_for_training
from detector.engine.forward import ConvolutionName
from detector.engine.matcher import Matcher
from detector.engine.optimizer import build_optimizer, masked_step
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.models import build_model
from detector.structures import Batch, Size

LR = 1e-4


@dataclass(frozen=True, slots=True)
class Setting:
    """A network and how it is trained.

    Attributes:
        name: of the setting.
        backbone: a ResNet's name.
        is_pretrained: frozen norm, stem and first stage frozen; else batch norm, and everything is trained.
        channels: of the pyramid.
        num_classes: K.
        optimizer: of both systems.
        on_cpu: images of a step, and their size.
        on_cuda: likewise.
    """

    name: str
    backbone: str
    is_pretrained: bool
    channels: int
    num_classes: int
    optimizer: OptimizerConfig
    on_cpu: tuple[int, Size]
    on_cuda: tuple[int, Size]

    def batch(self, device: torch.device) -> int:
        """Images of a step."""
        return (self.on_cuda if device.type == "cuda" else self.on_cpu)[0]

    def size(self, device: torch.device) -> Size:
        """(height, width) of its images."""
        return (self.on_cuda if device.type == "cuda" else self.on_cpu)[1]


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("pretrained", "resnet50", True, 256, 80, OptimizerConfig(lr=LR), (2, (512, 512)), (16, (800, 1344))),
        Setting(
            "scratch",
            "resnet18",
            False,
            64,
            3,
            OptimizerConfig(name="adamw", lr=LR, weight_decay=0.05, clip_grad_norm=10.0),
            (8, (256, 352)),
            (16, (512, 704)),
        ),
    )
}


def our_step(
    setting: Setting,
    batch: Batch,
    precision: ResolvedPrecision,
    device: torch.device,
    *,
    convolution: ConvolutionName = "auto",
    compilation: CompileName = "off",
    assignment: Backend = "auto",
) -> Callable[[], None]:
    """Return what makes one step of ours on a batch on the device."""
    norm, frozen_stages = ("frozen", 2) if setting.is_pretrained else ("batch", 0)
    backbone = BackboneConfig(name=setting.backbone, weights="none", norm=norm, frozen_stages=frozen_stages)
    model = build_model(ModelConfig(backbone=backbone, fpn=FpnConfig(channels=setting.channels)), setting.num_classes)
    calm_frozen_norms(model)
    model = place_for_training(model, device).train()
    state = TrainState(model, build_optimizer(setting.optimizer, model), LossNormalizer("batch"))
    if precision == "fp16":
        state.scaler = torch.amp.GradScaler(device.type)
    matcher = Matcher(
        AnchorGenerator(),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.4,
        allow_low_quality_matches=True,
        ignore_ioa_thresh=0.5,
        backend=assignment,
    )
    stepper = Stepper(
        state,
        matcher,
        Criterion(),
        precision=precision,
        convolution=convolution,
        compilation=compilation,
        clip_grad_norm=setting.optimizer.clip_grad_norm,
    )

    def step() -> None:
        stepper([batch])
        state.step += 1

    return step


def torchvision_step(
    setting: Setting, batch: Batch, precision: ResolvedPrecision, device: torch.device
) -> Callable[[], None]:
    """Return what makes one step of torchvision's RetinaNet on the same batch."""
    height, width = batch.images.shape[1:3]
    model = RetinaNet(
        _torchvision_backbone(setting), setting.num_classes, min_size=min(height, width), max_size=max(height, width)
    )
    calm_frozen_norms(model)
    model = model.to(device).train()
    optimizer = build_optimizer(setting.optimizer, model)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    images = list(batch.images.permute(0, 3, 1, 2).float().contiguous() / 255)
    targets = [{"boxes": b, "labels": t} for b, t in zip(batch.gt_boxes, batch.gt_labels, strict=True)]
    finite = torch.ones((), dtype=torch.bool, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision, device):
            losses = model(images, targets)
        scaler.scale(sum(losses.values())).backward()
        if setting.optimizer.clip_grad_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), setting.optimizer.clip_grad_norm)
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            masked_step(optimizer, finite)  # which guards against fused kernels that mistake a gradient's layout

    return step


def _torchvision_backbone(setting: Setting) -> BackboneWithFPN:
    norm_layer = torchvision.ops.FrozenBatchNorm2d if setting.is_pretrained else nn.BatchNorm2d
    resnet = torchvision.models.get_model(setting.backbone, weights=None, norm_layer=norm_layer)
    if setting.is_pretrained:
        for frozen in (resnet.conv1, resnet.layer1):
            frozen.requires_grad_(False)
    c5 = resnet.fc.in_features
    p6_p7 = LastLevelP6P7(c5, setting.channels)  # P6 from C5, as ours
    stages = {"layer2": "0", "layer3": "1", "layer4": "2"}
    return BackboneWithFPN(resnet, stages, [c5 // 4, c5 // 2, c5], setting.channels, p6_p7)
