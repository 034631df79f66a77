"""Frozen batch norm folded into the convolution before it: the same numbers with a third of the memory traffic.

bn(conv(x)) = conv'(x) with the weights times scale and the shift as bias, for scale = gamma / sqrt(var + eps) and
shift = beta - mean * scale. The product is made in every forward pass, so the convolution's weights train as before
(exact: their gradient passes through the scale) and the state dict keeps torchvision's names.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from detector.models.norm import FrozenBatchNorm2d


class FoldedConv2d(nn.Module):
    """A convolution that applies the frozen batch norm behind it.

    Args:
        conv: convolution without bias; its weights are taken over.
        norm: the frozen norm behind it.
    """

    def __init__(self, conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        # In a tuple, so that it is not a second child: its buffers are saved where torchvision has them.
        self._norm = (norm,)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.weight.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W], normalised."""
        scale, shift = self._norm[0].scale_and_shift()
        weight = self.weight * scale.view(-1, 1, 1, 1)
        return F.conv2d(x, weight, shift, self.stride, self.padding, self.dilation, self.groups)


def fold_frozen_norms(model: nn.Module) -> None:
    """Fold every frozen batch norm that directly follows a convolution, in place."""
    for parent in list(model.modules()):
        for (name, child), (_, norm) in pairwise(list(parent.named_children())):
            if isinstance(child, nn.Conv2d) and child.bias is None and isinstance(norm, FrozenBatchNorm2d):
                setattr(parent, name, FoldedConv2d(child, norm))
                norm.is_folded = True
