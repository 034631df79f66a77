"""A copy of the network for inference: the same numbers with fewer passes over memory.

Batch norm is multiplied into the convolution before it once, and not in every forward pass; on a CPU a convolution
also applies the ReLU and the sum with the shortcut behind it while its output is still in the cache (oneDNN's post-ops,
which torch's own compiler uses too). Where Winograd's algorithm is faster it takes the place of these.
"""

import copy
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from detector.models.folding import FoldedConv2d
from detector.models.norm import FrozenBatchNorm2d
from detector.models.retinanet import RetinaNet
from detector.ops.fast_convolutions import MIN_CHANNELS, MIN_TILES_TRANSFORMED
from detector.ops.winograd import num_tiles, transform_weight, winograd_conv2d

Norm = FrozenBatchNorm2d | nn.modules.batchnorm._BatchNorm
Conv = nn.Conv2d | FoldedConv2d

_WINOGRAD: Final = ((3, 3), (1, 1), (1, 1), (1, 1), 1)
"""Kernel, stride, padding, dilation and groups of what Winograd's algorithm here can do."""


class FixedConv2d(nn.Module):
    """A convolution with fixed weights, and ReLU behind it if asked for.

    Args:
        conv: convolution to take the weights of.
        norm: batch norm behind ``conv`` that is multiplied in, as it is in evaluation mode.
        relu: whether max(0, x) is applied.
        dtype: of the weights and of the output.
        winograd: whether a convolution that :mod:`detector.ops.winograd` makes faster is computed by it.
    """

    def __init__(
        self, conv: Conv, norm: Norm | None = None, *, relu: bool, dtype: torch.dtype, winograd: bool = False
    ) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups, self.relu = conv.stride, conv.dilation, conv.groups, relu
        # Only there in builds with oneDNN; in bf16 it refuses processors that have to emulate that.
        has_operator = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        self.has_post_ops = relu and dtype == torch.float32 and has_operator
        assert not isinstance(conv.padding, str)
        self.padding = conv.padding
        weight, bias = _folded(conv, norm)
        self.register_buffer("weight", weight.to(dtype=dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.to(dtype))
        fits = (tuple(weight.shape[2:]), conv.stride, conv.padding, conv.dilation, conv.groups) == _WINOGRAD
        is_faster = winograd and dtype == torch.float32 and fits and min(weight.shape[:2]) >= MIN_CHANNELS
        self.register_buffer("transformed", transform_weight(self.weight) if is_faster else None)

    weight: Tensor
    bias: Tensor | None
    transformed: Tensor | None

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Return [N, C, H, W] the convolution plus ``shortcut``, if one is given, and then ReLU."""
        x = x.to(self.weight.dtype)
        where = (self.padding, self.stride, self.dilation, self.groups)
        if self.transformed is not None and num_tiles(1, x.shape[2], x.shape[3]) >= MIN_TILES_TRANSFORMED:
            return self._finish(winograd_conv2d(x, self.transformed, self.bias), shortcut)
        if self.has_post_ops and x.device.type == "cpu":
            if shortcut is None:
                fused = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *where, "relu", [], "")
            else:
                fused = torch.ops.mkldnn._convolution_pointwise.binary(
                    x, shortcut, self.weight, self.bias, *where, "add", 1.0, "relu", [], ""
                )
            output: Tensor = fused
            return output
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return self._finish(y, shortcut)

    def _finish(self, y: Tensor, shortcut: Tensor | None) -> Tensor:
        if shortcut is not None:
            y += shortcut
        return y.relu_() if self.relu else y


class FixedBlock(nn.Module):
    """A residual block of torchvision's ResNet made of :class:`FixedConv2d`.

    Args:
        block: in evaluation mode, its norms foldable.
        dtype: of weights and activations.
        winograd: see :class:`FixedConv2d`.
    """

    def __init__(self, block: BasicBlock | Bottleneck, dtype: torch.dtype, *, winograd: bool) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convs = nn.ModuleList(
            FixedConv2d(conv, norm, relu=True, dtype=dtype, winograd=winograd) for conv, norm in pairs
        )
        self.downsample = None
        if block.downsample is not None:
            self.downsample = FixedConv2d(block.downsample[0], block.downsample[1], relu=False, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for conv in self.convs[:-1]:
            x = conv(x)
        output: Tensor = self.convs[-1](x, shortcut)
        return output


@torch.no_grad()
def inference_copy(model: RetinaNet, dtype: torch.dtype = torch.float32, *, winograd: bool = False) -> RetinaNet:
    """Return a copy of a network that computes the same, faster, and cannot be trained or saved.

    Its outputs equal those of ``model`` in evaluation mode to about 1e-6 of their size (sums are rounded in another
    order). Group norm stays as it is.

    Args:
        model: left as it is, in either mode.
        dtype: what the network's convolutions compute in.
        winograd: whether convolutions are computed by Winograd's algorithm where that is faster on a CPU. Its weights
            take four times the memory of those that they are made of, beside them.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    backbone = network.backbone
    if not isinstance(backbone.bn1, nn.GroupNorm):
        backbone.conv1 = FixedConv2d(backbone.conv1, backbone.bn1, relu=True, dtype=dtype)  # type: ignore[arg-type]
        backbone.bn1, backbone.relu = nn.Identity(), nn.Identity()
        for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
            for name, block in list(stage.named_children()):  # type: ignore[union-attr]
                setattr(stage, name, FixedBlock(block, dtype, winograd=winograd))
    for subnet in (network.cls_subnet, network.box_subnet):
        subnet.convs = _fuse_relus(subnet.convs, dtype, winograd=winograd)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, FixedConv2d(child, relu=False, dtype=dtype, winograd=winograd))
    return network


def _fuse_relus(layers: nn.Sequential, dtype: torch.dtype, *, winograd: bool) -> nn.Sequential:
    """Give the ReLUs that directly follow a convolution to it."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.ReLU) and fused and isinstance(fused[-1], nn.Conv2d):
            fused[-1] = FixedConv2d(fused[-1], relu=True, dtype=dtype, winograd=winograd)
        else:
            fused.append(layer)
    return nn.Sequential(*fused)


def _folded(conv: Conv, norm: Norm | None) -> tuple[Tensor, Tensor | None]:
    """Return weights and bias of a convolution with the norm behind it; see :mod:`detector.models.folding`."""
    if norm is None:
        assert isinstance(conv, nn.Conv2d)
        return conv.weight, conv.bias
    if isinstance(norm, FrozenBatchNorm2d):
        scale, shift = norm.scale_and_shift()
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
    return conv.weight * scale.view(-1, 1, 1, 1), shift
