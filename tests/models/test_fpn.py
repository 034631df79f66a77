from collections import OrderedDict
from typing import Literal

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from detector.models.fpn import FeaturePyramid

CHANNELS = (6, 10, 14)


def random_features(size: tuple[int, int] = (13, 9)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    height, width = size
    return [
        torch.randn(2, c, -(-height // 2**i), -(-width // 2**i), generator=generator) for i, c in enumerate(CHANNELS)
    ]


@pytest.mark.parametrize("p6_from", ["c5", "p5"])
def test_levels_equal_torchvisions(p6_from: Literal["c5", "p5"]) -> None:
    torch.manual_seed(0)
    p6_channels = CHANNELS[-1] if p6_from == "c5" else 8
    theirs = FeaturePyramidNetwork(list(CHANNELS), 8, extra_blocks=LastLevelP6P7(p6_channels, 8))
    ours = FeaturePyramid(CHANNELS, channels=8, p6_from=p6_from)
    for i in range(3):
        ours.lateral[i].load_state_dict(theirs.inner_blocks[i][0].state_dict())  # type: ignore[index]
        ours.output[i].load_state_dict(theirs.layer_blocks[i][0].state_dict())  # type: ignore[index]
    ours.p6.load_state_dict(theirs.extra_blocks.p6.state_dict())  # type: ignore[union-attr]
    ours.p7.load_state_dict(theirs.extra_blocks.p7.state_dict())  # type: ignore[union-attr]
    features = random_features()
    expected = theirs(OrderedDict((str(i), feature) for i, feature in enumerate(features)))
    assert_close(ours(features), tuple(expected.values()), atol=0, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (13, 9), (1, 1), (3, 40)])
def test_each_level_has_half_the_sides_rounded_up(size: tuple[int, int]) -> None:
    levels = FeaturePyramid(CHANNELS, channels=8)(random_features(size))
    expected = [tuple(-(-side // 2**i) for side in size) for i in range(5)]
    assert [tuple(level.shape[2:]) for level in levels] == expected
    assert {level.shape[1] for level in levels} == {8}


def test_initial_weights_have_the_spread_of_one_over_the_fan_in() -> None:
    torch.manual_seed(0)
    fpn = FeaturePyramid((256, 512, 512), channels=64)
    for conv, fan_in in ((fpn.lateral[0], 256), (fpn.output[2], 64 * 9), (fpn.p6, 512 * 9), (fpn.p7, 64 * 9)):
        weight, bias = conv.weight, conv.bias
        assert isinstance(weight, torch.Tensor)
        assert_close(weight.var().item() * fan_in, 1.0, rtol=0.05, atol=0)
        assert torch.count_nonzero(bias) == 0  # type: ignore[arg-type]
