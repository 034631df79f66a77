"""The feature pyramid P3 ... P7."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Feature pyramid network with two extra levels (Lin et al. 2017a; RetinaNet, Sec. 4, footnote 2).

    P3 ... P5: lateral 1x1 convolutions, nearest-neighbour upsampling and addition from the top down, a 3x3 convolution
    on each. P6: a 3x3 stride-2 convolution on C5 (or on P5); P7: ReLU and the same on P6.

    Args:
        in_channels: channels of C3, C4, C5.
        channels: channels of every level.
        p6_from: what P6 is computed from.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256, p6_from: Literal["c5", "p5"] = "c5") -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, kernel_size=1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in in_channels)
        self.p6_from = p6_from
        p6_channels = in_channels[-1] if p6_from == "c5" else channels
        self.p6 = nn.Conv2d(p6_channels, channels, kernel_size=3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Uniform with variance 1 / fan_in: these convolutions have no ReLU behind them (but P7's input).
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return P3 ... P7 from C3, C4, C5; each level's sides are half those of the one before, rounded up."""
        merged = self.lateral[-1](features[-1])
        outputs = [self.output[-1](merged)]
        for idx in range(len(features) - 2, -1, -1):
            lateral = self.lateral[idx](features[idx])
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            outputs.insert(0, self.output[idx](merged))
        p6 = self.p6(features[-1] if self.p6_from == "c5" else outputs[-1])
        return (*outputs, p6, self.p7(F.relu(p6)))
