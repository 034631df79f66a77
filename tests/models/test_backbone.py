import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.models._utils import IntermediateLayerGetter

from detector.models.backbone import ResNetBackbone, ResNetName

STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_names_and_shapes_are_torchvisions_but_for_the_classifier(name: ResNetName) -> None:
    with torch.device("meta"):
        ours = ResNetBackbone(name).state_dict()
        theirs = torchvision.models.get_model(name, weights=None).state_dict()
    expected = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == expected


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_are_torchvisions(name: ResNetName) -> None:
    torch.manual_seed(0)
    ours, theirs = ResNetBackbone(name).eval(), torchvision.models.get_model(name, weights=None).eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(1, 3, 65, 40)
    getter = IntermediateLayerGetter(theirs, {"layer2": "c3", "layer3": "c4", "layer4": "c5"})
    with torch.no_grad():
        features = ours(images)
        assert_close(features, tuple(getter(images).values()), atol=0, rtol=0)
    assert [feature.shape[1] for feature in features] == list(ours.out_channels)
    assert [feature.shape[2:] for feature in features] == [(9, 5), (5, 3), (3, 2)]


@pytest.mark.parametrize("frozen_stages", range(6))
def test_frozen_stages_get_no_gradient_and_the_others_do(frozen_stages: int) -> None:
    torch.manual_seed(0)
    backbone = ResNetBackbone("resnet18", frozen_stages=frozen_stages)
    loss = sum(feature.square().mean() for feature in backbone(torch.randn(2, 3, 64, 64, requires_grad=True)))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    frozen = {child for stage in STAGES[:frozen_stages] for child in stage}
    for name, parameter in backbone.named_parameters():
        is_frozen = name.split(".")[0] in frozen
        assert parameter.requires_grad != is_frozen
        assert (parameter.grad is None) == is_frozen


@pytest.mark.parametrize("call_train", [False, True])
def test_batch_norm_of_frozen_stages_keeps_its_statistics_in_training(call_train: bool) -> None:
    torch.manual_seed(0)
    backbone = ResNetBackbone("resnet18", frozen_stages=2)
    if call_train:
        backbone.eval()
        nn.Sequential(backbone).train()  # as part of a network
    assert backbone.training
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))
    for key, value in backbone.state_dict().items():
        if "running" in key or "num_batches" in key:
            is_frozen = key.startswith(("bn1.", "layer1."))
            assert torch.equal(value, before[key]) == is_frozen, key


def test_evaluation_mode_reaches_every_stage() -> None:
    backbone = ResNetBackbone("resnet18", frozen_stages=2).eval()
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("norm", ["frozen", "batch", "sync", "group"])
def test_every_norm_is_used_throughout(norm) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        kinds = {type(module).__name__ for module in ResNetBackbone("resnet18", norm=norm).modules()}
    norms = {"frozen": "FrozenBatchNorm2d", "batch": "BatchNorm2d", "sync": "SyncBatchNorm", "group": "GroupNorm"}
    assert kinds & set(norms.values()) == {norms[norm]}
