import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from detector.models.backbone import ResNetBackbone
from detector.models.folding import FoldedConv2d
from detector.models.norm import FrozenBatchNorm2d


def make_backbones(monkeypatch: pytest.MonkeyPatch) -> tuple[ResNetBackbone, ResNetBackbone]:
    """The same float64 network with and without folding, with random statistics."""
    torch.manual_seed(0)
    folded = ResNetBackbone("resnet18", norm="frozen").double()
    with monkeypatch.context() as patch:
        patch.setattr("detector.models.backbone.fold_frozen_norms", lambda _: None)
        plain = ResNetBackbone("resnet18", norm="frozen").double()
    for name, buffer in folded.named_buffers():
        nn.init.uniform_(buffer, 0.5, 1.5) if "var" in name or "weight" in name else nn.init.normal_(buffer, std=0.2)
    plain.load_state_dict(folded.state_dict())
    return folded, plain


def test_folded_features_and_weight_gradients_equal_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, plain = make_backbones(monkeypatch)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    actual, expected = folded(images), plain(images)
    assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    for features in (actual, expected):
        sum(feature.square().mean() for feature in features).backward()  # type: ignore[union-attr]
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in folded.named_parameters():
        assert_close(parameter.grad, gradients[name], rtol=1e-8, atol=1e-8)


def test_every_convolution_is_folded_and_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, plain = make_backbones(monkeypatch)
    num_convs = sum(isinstance(module, nn.Conv2d) for module in plain.modules())
    assert sum(isinstance(module, FoldedConv2d) for module in folded.modules()) == num_convs
    assert all(module.is_folded for module in folded.modules() if isinstance(module, FrozenBatchNorm2d))
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert folded.out_channels == plain.out_channels == (128, 256, 512)


def test_a_copy_folds_its_own_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, _ = make_backbones(monkeypatch)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    before = folded(images)
    other = copy.deepcopy(folded)
    other.bn1.bias.add_(1.0)  # type: ignore[union-attr,operator]
    assert_close(folded(images), before, rtol=0, atol=0)
    assert not torch.equal(other(images)[0], before[0])


def test_weights_loaded_and_types_changed_later_count(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, plain = make_backbones(monkeypatch)
    for parameter in plain.state_dict().values():
        parameter.mul_(0.9)
    folded.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert_close(folded.float()(images), plain.float()(images), rtol=1e-4, atol=1e-4)


def test_other_norms_are_left_alone() -> None:
    with torch.device("meta"):
        modules = list(ResNetBackbone("resnet18", norm="batch").modules())
    assert not any(isinstance(module, FoldedConv2d) for module in modules)
