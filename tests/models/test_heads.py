import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from detector.models.heads import Subnet, initial_cls_bias, prior_bias


def make_subnet(**arguments) -> Subnet:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return Subnet(8, **({"num_convs": 2, "num_anchors": 3, "num_outputs": 5} | arguments))


def test_rows_are_ordered_by_y_then_x_then_anchor() -> None:
    subnet = make_subnet()
    feature = torch.randn(2, 8, 4, 6)
    (rows,) = subnet([feature])
    raw = subnet.last(subnet.convs(feature))  # [N, A * outputs, H, W]
    assert rows.shape == (2, 4 * 6 * 3, 5)
    for y, x, anchor in ((0, 0, 0), (0, 1, 2), (2, 5, 1), (3, 5, 2)):
        expected = raw[:, anchor * 5 : (anchor + 1) * 5, y, x]
        assert_close(rows[:, (y * 6 + x) * 3 + anchor], expected, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_in_channels_last_memory_is_a_view_without_a_copy(dtype: torch.dtype) -> None:
    subnet = make_subnet().to(memory_format=torch.channels_last)
    raw: list[torch.Tensor] = []
    subnet.last.register_forward_hook(lambda module, inputs, output: raw.append(output))
    features = [torch.randn(2, 8, *shape).to(memory_format=torch.channels_last) for shape in ((16, 12), (5, 7))]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        outputs = subnet(features)
    for output, before in zip(outputs, raw, strict=True):
        assert output.dtype == dtype
        assert output.data_ptr() == before.data_ptr()
        assert output.is_contiguous()


def test_levels_share_their_weights() -> None:
    subnet = make_subnet()
    feature = torch.randn(1, 8, 3, 3)
    first, second = subnet([feature, feature])
    assert_close(first, second, atol=0, rtol=0)


def test_initial_weights_are_normal_with_spread_one_hundredth_and_biases_zero_but_the_last() -> None:
    subnet = make_subnet(num_convs=4, last_bias=-3.0)
    convs = [module for module in subnet.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 5
    weights = torch.cat([conv.weight.flatten() for conv in convs])
    assert_close(weights.std().item(), 0.01, rtol=0.05, atol=0)
    for conv in convs:
        assert_close(conv.bias, torch.full_like(conv.bias, -3.0 if conv is subnet.last else 0.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.2])
def test_prior_bias_is_the_logit_of_the_prior(prior: float) -> None:
    assert_close(torch.tensor(prior_bias(prior)).sigmoid(), torch.tensor(prior))


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.2])
@pytest.mark.parametrize("num_classes", [1, 3, 80])
def test_at_the_start_an_anchor_is_an_object_with_the_prior_probability(num_classes: int, prior: float) -> None:
    sigmoid = initial_cls_bias(num_classes, prior, "sigmoid")
    assert_close(sigmoid.sigmoid(), torch.full((num_classes,), prior))
    softmax = initial_cls_bias(num_classes, prior, "softmax")
    expected = torch.tensor([prior / num_classes] * num_classes + [1 - prior])  # background last
    assert_close(softmax.softmax(dim=0), expected)
    assert torch.equal(softmax[:-1], torch.zeros(num_classes))
    assert_close(softmax[-1].item(), math.log(num_classes * (1 - prior) / prior))


def test_a_bias_per_output_is_that_of_every_anchor() -> None:
    bias = torch.arange(5.0)
    subnet = make_subnet(last_bias=bias)
    torch.nn.init.zeros_(subnet.last.weight)
    (rows,) = subnet([torch.randn(2, 8, 3, 4)])
    assert_close(rows, bias.expand(2, 3 * 4 * 3, 5), rtol=0, atol=0)
    assert subnet.last.bias is not None
    assert subnet.last.bias.requires_grad


def test_a_bias_of_another_length_does_not_fit() -> None:
    with pytest.raises(RuntimeError, match=r"size of tensor a \(5\) must match"):
        make_subnet(last_bias=torch.zeros(4))


@pytest.mark.parametrize(("norm", "num_norms"), [("none", 0), ("group", 2)])
def test_group_norm_follows_each_convolution_but_the_last(norm: str, num_norms: int) -> None:
    subnet = make_subnet(norm=norm)
    assert sum(isinstance(module, nn.GroupNorm) for module in subnet.modules()) == num_norms
    assert subnet([torch.randn(1, 8, 3, 3)])[0].shape == (1, 27, 5)


def test_a_subnet_may_be_its_last_convolution_alone() -> None:
    assert make_subnet(num_convs=0)([torch.randn(1, 8, 3, 3)])[0].shape == (1, 27, 5)
