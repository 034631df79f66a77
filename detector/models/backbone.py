"""The ResNet below the pyramid: torchvision's, without its classifier."""

from collections import OrderedDict
from typing import Literal

import torchvision
from torch import Tensor, nn

from detector.models.folding import FoldedConv2d, fold_frozen_norms
from detector.models.norm import NormName, make_norm_layer

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]

_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""In the order of the forward pass."""

_STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
"""What freezing counts: the stem, then the four stages."""


class ResNetBackbone(nn.Module):
    """Features C3, C4 and C5 of a ResNet (He et al. 2016), random weights.

    Parameter names are torchvision's, so a classifier's state dict loads but for ``fc``.

    Args:
        name: architecture.
        norm: normalisation layers.
        frozen_stages: this many stages, counted from the stem, get no gradient (their batch norm keeps its statistics).
    """

    def __init__(self, name: ResNetName, *, norm: NormName = "batch", frozen_stages: int = 0) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(name, weights=None, norm_layer=make_norm_layer(norm))
        fold_frozen_norms(resnet)
        children = OrderedDict(resnet.named_children())
        self.out_channels: tuple[int, int, int] = tuple(
            _out_channels(children[stage]) for stage in ("layer2", "layer3", "layer4")
        )  # type: ignore[assignment]
        for child_name in _CHILDREN:
            self.add_module(child_name, children[child_name])
        self.frozen_modules = [child for stage in _STAGES[:frozen_stages] for child in stage]
        for child_name in self.frozen_modules:
            self.get_submodule(child_name).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ResNetBackbone":
        """Set the mode, but keep batch norm of frozen stages in evaluation mode."""
        super().train(mode)
        for child_name in self.frozen_modules:
            self.get_submodule(child_name).train(False)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C3, C4, C5: [N, C, H / 8, W / 8] and likewise for 16 and 32, sides rounded up."""
        x = images
        features = []
        for name in _CHILDREN:
            x = self.get_submodule(name)(x)
            features.append(x)
        c3, c4, c5 = features[-3:]
        return c3, c4, c5


def _out_channels(stage: nn.Module) -> int:
    """Return the channels that a stage ends with: those of its last convolution."""
    return [module for module in stage.modules() if isinstance(module, nn.Conv2d | FoldedConv2d)][-1].out_channels
