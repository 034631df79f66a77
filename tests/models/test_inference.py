"""The copy for inference against the network that it was made of."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from detector.config import BackboneConfig, HeadConfig, ModelConfig
from detector.models import RetinaNet, build_model
from detector.models.inference import FixedConv2d, inference_copy
from detector.structures import HeadOutputs


def make_network(**backbone: Any) -> RetinaNet:
    """A small network in training mode whose norms have seen something."""
    torch.manual_seed(0)
    settings = {"name": "resnet18", "weights": "none", "frozen_stages": 0} | backbone
    config = ModelConfig(backbone=BackboneConfig(**settings), head=HeadConfig(num_convs=2))
    network = build_model(config, num_classes=3)
    for module in network.modules():
        if type(module).__name__.endswith(("BatchNorm2d", "SyncBatchNorm")):
            nn.init.uniform_(module.weight, 0.3, 0.7)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, std=0.2)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
    return network


def make_images() -> Tensor:
    return torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def run(network: nn.Module, images: Tensor) -> list[Tensor]:
    outputs: HeadOutputs = network(images)
    return [*outputs.cls_logits, *outputs.bbox_deltas]


@pytest.mark.parametrize(
    ("name", "norm"), [("resnet18", "sync"), ("resnet18", "group"), ("resnet50", "frozen"), ("resnet50", "batch")]
)
def test_the_copy_gives_the_outputs_of_the_network(name: str, norm: str) -> None:
    network, images = make_network(name=name, norm=norm), make_images()
    copy = inference_copy(network)
    for output, expected in zip(run(copy, images), run(network.eval(), images), strict=True):
        assert (output - expected).abs().max() <= 1e-5 * expected.abs().max()
    network, images = network.double(), images.double()
    exact = inference_copy(network, torch.float64)
    for output, expected in zip(run(exact, images), run(network, images), strict=True):
        assert (output - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_winograds_convolutions_give_the_outputs_of_the_network(name: str) -> None:
    network, images = make_network(name=name, norm="batch"), torch.randn(2, 3, 160, 256)
    copy = inference_copy(network, winograd=True)
    transformed = [module for module in copy.modules() if getattr(module, "transformed", None) is not None]
    # Every 3x3 convolution with stride 1 but the last ones of the subnets, which have too few channels.
    assert len(transformed) == {"resnet18": 13, "resnet50": 13}[name] + 3 + 4
    for output, expected in zip(run(copy, images), run(network.eval(), images), strict=True):
        assert (output - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_so_it_does_where_torch_lacks_the_fused_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = make_network(norm="batch"), make_images()
    fused, plain = inference_copy(network), inference_copy(network)
    convs = [module for module in plain.modules() if isinstance(module, FixedConv2d)]
    assert sum(module.has_post_ops for module in convs) >= 17 + 4
    for module in convs:
        module.has_post_ops = False
    for actual, expected in zip(run(plain, images), run(fused, images), strict=True):
        assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_forward_pass_normalises_nothing_and_scales_no_weights() -> None:
    copy = inference_copy(make_network(norm="frozen"))
    operators = [event.key for event in profile(copy)]
    assert any("convolution" in key for key in operators)
    assert not {"aten::batch_norm", "aten::rsqrt", "aten::mul"} & {*operators}


def profile(network: nn.Module) -> Any:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as result:
        run(network, make_images())
    return result.key_averages()


def test_the_network_is_left_as_it_is() -> None:
    network = make_network(norm="batch")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = inference_copy(network)
    assert network.training
    assert not copy.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        for module in copy.modules():
            if isinstance(module, FixedConv2d):
                module.weight.zero_()
    for name, tensor in network.state_dict().items():
        assert_close(tensor, before[name], rtol=0, atol=0)


def test_reduced_precision_is_that_of_autocast() -> None:
    network, images = make_network(norm="frozen").eval(), make_images()[:, :, :32, :32]
    reduced = inference_copy(network, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = run(reduced, images), run(network, images)
    for output, reference in zip(actual, expected, strict=True):
        assert output.dtype == reference.dtype == torch.bfloat16
        assert (output - reference).abs().max() <= 0.05 * reference.abs().max()
