"""The class and the box subnet, shared by all levels."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from detector.models.norm import group_norm
from detector.structures import Activation


class Subnet(nn.Module):
    """3x3 convolutions with ReLU, then one 3x3 convolution to the outputs of A anchors (RetinaNet, Sec. 4).

    Weights are drawn from N(0, 0.01) and biases are 0, but for the last one's.

    Args:
        channels: of the pyramid levels and in between.
        num_convs: convolutions before the last.
        num_anchors: A, anchors per cell.
        num_outputs: values per anchor: K (with softmax K + 1), or 4.
        norm: normalisation behind each of the ``num_convs`` convolutions.
        last_bias: start of the last convolution's bias: one number, or [num_outputs], the same for every anchor.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_convs: int,
        num_anchors: int,
        num_outputs: int,
        norm: Literal["none", "group"] = "none",
        last_bias: float | Tensor = 0.0,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        layers: list[nn.Module] = []
        for _ in range(num_convs):
            layers.append(nn.Conv2d(channels, channels, kernel_size=3, padding=1))
            if norm == "group":
                layers.append(group_norm(channels))
            layers.append(nn.ReLU(inplace=True))
        self.convs = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, num_anchors * num_outputs, kernel_size=3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.last.bias.view(num_anchors, num_outputs).copy_(torch.as_tensor(last_bias))  # type: ignore[union-attr]

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one tensor [N, Hl * Wl * A, num_outputs] per level; a view where memory is channels-last."""
        return tuple(self._one_level(feature) for feature in features)

    def _one_level(self, feature: Tensor) -> Tensor:
        x: Tensor = self.last(self.convs(feature))  # [N, A * num_outputs, H, W]
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.num_outputs)


def prior_bias(prior: float) -> float:
    """Return the logit b with sigmoid(b) = prior (RetinaNet, Sec. 4.1: b = -log((1 - pi) / pi))."""
    return -math.log((1 - prior) / prior)


def initial_cls_bias(num_classes: int, prior: float, activation: Activation = "sigmoid") -> Tensor:
    """Return what the class subnet's last bias starts with, so that every anchor is taken for background at first.

    Args:
        num_classes: K, real classes.
        prior: pi in (0, 1).
        activation: what makes probabilities of logits.

    Returns:
        sigmoid: [K], each with probability pi (:func:`prior_bias`). softmax: [K + 1], background last with the
        probability 1 - pi, which log(K (1 - pi) / pi) against 0 gives, and pi / K for each class.
    """
    match activation:
        case "sigmoid":
            return torch.full((num_classes,), prior_bias(prior))
        case "softmax":
            bias = torch.zeros(num_classes + 1)
            bias[-1] = math.log(num_classes * (1 - prior) / prior)
            return bias
