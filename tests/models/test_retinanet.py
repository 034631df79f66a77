import pytest
import torch
from torch import nn
from torch.testing import assert_close

from detector.anchors import build_anchor_generator
from detector.config import AnchorConfig, BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.models import RetinaNet, build_model
from detector.models.build import resolve_backbone
from detector.models.norm import FrozenBatchNorm2d


def small_config(
    *, backbone: BackboneConfig | None = None, head: HeadConfig | None = None, anchors: AnchorConfig | None = None
) -> ModelConfig:
    return ModelConfig(
        backbone=backbone or BackboneConfig(name="resnet18", weights="none"),
        fpn=FpnConfig(channels=32),
        head=head or HeadConfig(num_convs=1),
        anchors=anchors or AnchorConfig(),
    )


def build_small(**sections) -> RetinaNet:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return build_model(small_config(**sections), num_classes=3)


@pytest.mark.parametrize("size", [(64, 64), (65, 127), (33, 95), (129, 71), (1, 1), (97, 160)])
def test_outputs_have_one_row_per_anchor_for_any_input_size(size: tuple[int, int]) -> None:
    anchors = AnchorConfig(scales=(1.0,), aspect_ratios=(0.5, 1.0))
    model = build_small(anchors=anchors).eval()
    generator = build_anchor_generator(anchors)
    shapes = generator.feature_shapes(size)
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, *size))
    expected = tuple(height * width * 2 for height, width in shapes)
    assert outputs.anchors_per_level == expected
    assert [tuple(logits.shape) for logits in outputs.cls_logits] == [(1, n, 3) for n in expected]
    assert [tuple(deltas.shape) for deltas in outputs.bbox_deltas] == [(1, n, 4) for n in expected]
    assert len(generator(shapes)) == sum(expected)


def test_every_score_starts_near_the_prior_and_every_box_near_its_anchor() -> None:
    model = build_small(head=HeadConfig(num_convs=4))
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 96, 96))
    scores = torch.cat(outputs.cls_logits, dim=1).sigmoid()
    assert_close(scores, torch.full_like(scores, 0.01), atol=0.001, rtol=0)
    deltas = torch.cat(outputs.bbox_deltas, dim=1)
    assert_close(deltas, torch.zeros_like(deltas), atol=0.05, rtol=0)


def test_the_prior_is_on_the_class_head_only() -> None:
    model = build_small(head=HeadConfig(num_convs=1, prior=0.2))
    assert_close(model.cls_subnet.last.bias.sigmoid(), torch.full((27,), 0.2))  # type: ignore[union-attr]
    others = [
        bias for name, bias in model.named_parameters() if name.endswith("bias") and name != "cls_subnet.last.bias"
    ]
    assert all(torch.count_nonzero(bias) == 0 for bias in others)


def test_names_of_the_parts_are_stable() -> None:
    names = {".".join(name.split(".")[:2]) for name in build_small().state_dict()}
    backbone = {f"backbone.{child}" for child in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")}
    assert names == backbone | {"fpn.lateral", "fpn.output", "fpn.p6", "fpn.p7"} | {
        f"{subnet}.{part}" for subnet in ("cls_subnet", "box_subnet") for part in ("convs", "last")
    }


def test_weights_and_outputs_are_channels_last() -> None:
    model = build_small()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
    outputs = model(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert all(tensor.is_contiguous() for tensor in (*outputs.cls_logits, *outputs.bbox_deltas))


def test_training_and_evaluation_give_the_same_with_frozen_norm() -> None:
    model = build_small(backbone=BackboneConfig(name="resnet18", weights="none", norm="frozen"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        training, evaluation = model.train()(images), model.eval()(images)
    assert_close(training.cls_logits, evaluation.cls_logits, atol=0, rtol=0)
    assert_close(training.bbox_deltas, evaluation.bbox_deltas, atol=0, rtol=0)


def test_group_norm_everywhere_leaves_images_independent() -> None:
    model = build_small(
        backbone=BackboneConfig(name="resnet18", weights="none", norm="group"),
        head=HeadConfig(num_convs=1, norm="group"),
    )
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        together, alone = model(images), model(images[1:])
    assert_close([x[1:] for x in together.cls_logits], list(alone.cls_logits), atol=1e-4, rtol=1e-4)


def test_under_autocast_the_outputs_and_their_gradients_stay_near_those_in_float32() -> None:
    model = build_small(backbone=BackboneConfig(name="resnet18", weights="none", norm="frozen"))
    images = torch.randn(1, 3, 64, 64)
    whole = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images)
    assert all(x.dtype == torch.bfloat16 for x in (*half.cls_logits, *half.bbox_deltas))
    for actual, expected in zip(half.cls_logits, whole.cls_logits, strict=True):
        assert_close(actual.float(), expected, atol=0.05, rtol=0.02)
    torch.cat(half.bbox_deltas, dim=1).float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.box_subnet.parameters())


def test_the_seed_alone_decides_the_weights() -> None:
    assert_close(build_small().state_dict(), build_small().state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("backbone", "norm", "frozen_stages"),
    [
        (BackboneConfig(weights="imagenet"), "frozen", 2),
        (BackboneConfig(weights="some/file.pth"), "frozen", 2),
        (BackboneConfig(weights="none"), "batch", 0),
        (BackboneConfig(weights="imagenet", norm="group", frozen_stages=0), "group", 0),
        (BackboneConfig(weights="none", norm="frozen", frozen_stages=5), "frozen", 5),
    ],
)
def test_auto_depends_on_whether_the_weights_are_pretrained(
    backbone: BackboneConfig, norm: str, frozen_stages: int
) -> None:
    assert resolve_backbone(backbone) == (norm, frozen_stages)


def test_a_checkpoint_needs_no_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.models.build.load_backbone_weights", lambda *_: pytest.fail("weights were loaded"))
    config = small_config(backbone=BackboneConfig(name="resnet18", weights="imagenet"))
    model = build_model(config, num_classes=3, load_weights=False)
    assert model.training
    assert model.num_classes == 3
    assert isinstance(model.backbone.bn1, FrozenBatchNorm2d)


def test_a_softmax_network_has_one_logit_more_per_anchor_and_as_many_classes() -> None:
    model = build_small(head=HeadConfig(num_convs=1, activation="softmax", prior=0.2))
    assert model.num_classes == 3
    assert model.activation == "softmax"
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 64, 64))
    logits = torch.cat(outputs.cls_logits, dim=1)
    assert logits.shape[2] == 4
    expected = torch.tensor([0.2 / 3] * 3 + [0.8]).expand_as(logits)  # background last
    assert_close(logits.softmax(dim=2), expected, atol=0.05, rtol=0)


def test_a_sigmoid_network_says_so() -> None:
    model = build_small()
    assert (model.num_classes, model.activation, model.cls_subnet.num_outputs) == (3, "sigmoid", 3)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build_model(small_config(), num_classes=0)
