import pytest
import torch
from torch import Tensor

from detector.config import BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.engine import forward as forward_module
from detector.engine.forward import ConvolutionName, forward, uses_winograd
from detector.models import RetinaNet, build_model
from detector.ops import fast_convolutions

CPU = torch.device("cpu")


@pytest.fixture
def transformed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The weights that Winograd's algorithm is given."""
    weights: list[Tensor] = []
    real = fast_convolutions.transform_weight

    def counting(weight: Tensor) -> Tensor:
        weights.append(weight)
        return real(weight)

    monkeypatch.setattr(fast_convolutions, "transform_weight", counting)
    return weights


def make_model() -> RetinaNet:
    torch.manual_seed(0)
    backbone = BackboneConfig(name="resnet18", weights="none", norm="frozen", frozen_stages=2)
    model = build_model(ModelConfig(backbone=backbone, fpn=FpnConfig(channels=128), head=HeadConfig(num_convs=2)), 3)
    for module in model.modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            module.weight.fill_(0.5)
    return model


def run(model: RetinaNet, convolution: ConvolutionName, side: int = 256) -> Tensor:
    images = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    outputs = forward(model, images, torch.tensor([[side, side]]), "fp32", convolution)
    return torch.cat([part.flatten() for part in (*outputs.cls_logits, *outputs.bbox_deltas)])


def test_outputs_and_gradients_are_those_of_direct_convolutions(transformed: list[Tensor]) -> None:
    model = make_model()
    gradients = []
    for convolution in ("direct", "winograd"):
        model.zero_grad()
        output = run(model, convolution)
        output.square().sum().backward()
        gradients.append((output.detach(), *(p.grad for p in model.parameters() if p.grad is not None)))
    assert transformed
    for direct, fast in zip(*gradients, strict=True):
        assert (fast - direct).norm() < 2e-5 * direct.norm()


def test_each_weight_of_the_subnets_is_transformed_once_for_all_levels(transformed: list[Tensor]) -> None:
    model = make_model()
    run(model, "winograd")
    expected = [
        conv.weight for subnet in (model.cls_subnet, model.box_subnet) for conv in (subnet.convs[0], subnet.convs[2])
    ]
    assert [sum(weight is own for weight in transformed) for own in expected] == [1, 1, 1, 1]


def test_evaluation_is_direct(transformed: list[Tensor]) -> None:
    run(make_model().eval(), "winograd")
    assert not transformed


def test_direct_is_direct(transformed: list[Tensor]) -> None:
    run(make_model(), "direct")
    assert not transformed


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", True), ("AVX512", False), ("DEFAULT", False)])
def test_auto_is_winograd_where_it_has_been_measured(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: bool
) -> None:
    monkeypatch.setattr(forward_module.torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert uses_winograd("auto", CPU, "fp32") is expected
    assert uses_winograd("winograd", CPU, "fp32")
    assert not uses_winograd("direct", CPU, "fp32")


def test_other_devices_and_precisions_have_no_choice() -> None:
    assert not uses_winograd("winograd", torch.device("cuda"), "fp32")
    assert not uses_winograd("winograd", CPU, "bf16")
