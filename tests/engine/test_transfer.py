"""Weights move to other classes by name; what does not fit stays new, and both are said."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from detector.config import AnchorConfig, BackboneConfig, FpnConfig, HeadConfig, ModelConfig
from detector.config_io import load_config_text
from detector.engine.checkpoint import load_checkpoint
from detector.engine.checkpoint_files import save_checkpoint
from detector.engine.state import TrainState
from detector.engine.train import train
from detector.engine.transfer import build_head_layout, initialise_model, transfer_weights
from detector.errors import UserError
from detector.models import RetinaNet, build_model
from detector.models.fpn import FeaturePyramid
from detector.models.heads import Subnet
from detector.structures import Categories
from tests.engine.tiny import tiny_config

RECIPE = """\
output_dir: runs/x
data:
  train: {annotations: t.json, images: t}
  val: {annotations: t.json, images: t}
schedule: {max_steps: 1}
model:
  backbone: {name: resnet18, weights: none, norm: batch}
  fpn: {channels: 8}
  head: {num_convs: 1}
"""


def model_config(activation: str = "sigmoid", **changes: Any) -> ModelConfig:
    parts: dict[str, Any] = {
        "backbone": BackboneConfig(name="resnet18", weights="none"),
        "fpn": FpnConfig(channels=8),
        "head": HeadConfig(num_convs=1, activation=activation),  # type: ignore[arg-type]
    }
    return ModelConfig(**{**parts, **changes})


def classes(names: Sequence[str], first_id: int = 1) -> Categories:
    return Categories(tuple(range(first_id, first_id + len(names))), tuple(names))


class TinyBackbone(nn.Module):
    """C3, C4, C5 of one channel each, as building a ResNet takes most of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 1, 3)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(functional.adaptive_avg_pool2d(self.conv1(images), 64 // stride) for stride in (8, 16, 32))


def random_model(config: ModelConfig, num_classes: int, seed: int) -> RetinaNet:
    """A network with no two weights alike, biases included, on a tiny backbone."""
    torch.manual_seed(seed)
    layout = {"num_convs": config.head.num_convs, "num_anchors": config.anchors.num_per_cell}
    num_logits = num_classes + (config.head.activation == "softmax")
    subnets = [Subnet(config.fpn.channels, num_outputs=num, **layout) for num in (num_logits, 4)]
    fpn = FeaturePyramid((1, 1, 1), config.fpn.channels, config.fpn.p6_from)
    model = RetinaNet(TinyBackbone(), fpn, *subnets, activation=config.head.activation)  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return model.eval()


def filled_model(config: ModelConfig, num_classes: int, value: float) -> RetinaNet:
    """The network of a configuration with one number in all places, which takes no time to draw."""
    with torch.device("meta"):
        model = build_model(config, num_classes, load_weights=False)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(value)
    return model


def transfer(
    old: Sequence[str], new: Sequence[str], *, old_config: ModelConfig | None = None, config: ModelConfig | None = None
) -> tuple[RetinaNet, RetinaNet, list[str], dict[str, torch.Tensor]]:
    """Move random weights; return the two networks, the notes, and what the new one began with."""
    old_config, config = old_config or model_config(), config or model_config()
    first, second = random_model(old_config, len(old), 1), random_model(config, len(new), 2)
    fresh = {name: value.clone() for name, value in second.state_dict().items()}
    layouts = build_head_layout(old_config, classes(old)), build_head_layout(config, classes(new, first_id=70))
    return first, second, transfer_weights(second, first.state_dict(), *layouts, "old.pt"), fresh


def logits_of(model: RetinaNet, image: torch.Tensor) -> torch.Tensor:
    """[N, R, C]."""
    with torch.inference_mode():
        return torch.cat(model(image).cls_logits, dim=1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True),
    st.sampled_from(["sigmoid", "softmax"]),
)
def test_shared_classes_keep_their_logits_whatever_their_order_and_ids(
    old: list[str], new: list[str], activation: str
) -> None:
    config = model_config(activation, anchors=AnchorConfig(scales=(1.0, 1.5), aspect_ratios=(0.5, 1.0, 2.0)))
    first, second, _, fresh = transfer(old, new, old_config=config, config=config)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    before, after = logits_of(first, image), logits_of(second, image)
    for name in {*old} & {*new}:
        assert_close(after[..., new.index(name)], before[..., old.index(name)], atol=1e-6, rtol=1e-6)
    if activation == "softmax":
        assert_close(after[..., -1], before[..., -1], atol=1e-6, rtol=1e-6)
    for name in {*new} - {*old}:
        label = new.index(name)
        for key in ("weight", "bias"):
            rows, begun = second.state_dict()[f"cls_subnet.last.{key}"], fresh[f"cls_subnet.last.{key}"]
            assert_close(rows.unflatten(0, (6, -1))[:, label], begun.unflatten(0, (6, -1))[:, label], atol=0, rtol=0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_equal_classes_are_copied_whole(activation: str) -> None:
    config = model_config(activation)
    first, second, notes, _ = transfer(["a", "b"], ["a", "b"], old_config=config, config=config)
    assert_close(second.state_dict(), first.state_dict(), atol=0, rtol=0)
    num_tensors = len(first.state_dict())
    assert notes == [f"initialised from old.pt: {num_tensors} of {num_tensors} tensors"]


def test_everything_but_the_last_class_layer_is_moved_whole() -> None:
    first, second, notes, _ = transfer(["person", "bus", "car"], ["truck", "car", "person"])
    for name, value in second.state_dict().items():
        if not name.startswith("cls_subnet.last"):
            assert_close(value, first.state_dict()[name], atol=0, rtol=0)
    num_tensors = len(first.state_dict())
    assert notes == [
        f"initialised from old.pt: {num_tensors - 2} of {num_tensors} tensors",
        "class head by name: moved car, person (2 of 3); new: truck; not used: bus",
    ]


def test_new_classes_begin_with_the_prior() -> None:
    model = build_model(model_config(), 2)
    layouts = build_head_layout(model_config(), classes(["a"])), build_head_layout(model_config(), classes(["b", "a"]))
    transfer_weights(model, filled_model(model_config(), 1, 7.0).state_dict(), *layouts, "old.pt")
    biases = model.state_dict()["cls_subnet.last.bias"].view(9, 2)
    assert_close(biases, torch.tensor([[-math.log(99), 7.0]] * 9))  # log((1 - 0.01) / 0.01)


def test_as_many_logits_of_other_anchors_and_classes_are_not_taken_for_the_same() -> None:
    # 6 anchors x 3 classes and 9 anchors x 2 classes are 18 channels both.
    other = model_config(anchors=AnchorConfig(scales=(1.0, 1.5)))
    _, second, notes, fresh = transfer(["a", "b", "c"], ["a", "b"], old_config=other)
    state = second.state_dict()
    for name in ("cls_subnet.last.weight", "cls_subnet.last.bias", "box_subnet.last.weight", "box_subnet.last.bias"):
        assert_close(state[name], fresh[name], atol=0, rtol=0)
    assert notes == [
        f"initialised from old.pt: {len(state) - 4} of {len(state)} tensors",
        "last layers of class and box head: new, as the checkpoint has 6 anchors per cell and this network 9",
    ]


def test_other_anchors_of_the_same_number_are_named_and_the_weights_move() -> None:
    small = model_config(anchors=AnchorConfig(sizes=(16, 32, 64, 128, 256), offset=0.5))
    first, second, notes, _ = transfer(["a"], ["a"], config=small)
    assert_close(second.state_dict(), first.state_dict(), atol=0, rtol=0)
    assert notes[1:] == [
        "moved to other anchors than they were trained with: model.anchors.sizes [32.0, 64.0, 128.0, 256.0, 512.0] -> "
        "[16.0, 32.0, 64.0, 128.0, 256.0], model.anchors.offset 0.0 -> 0.5"
    ]


def test_another_activation_leaves_the_last_class_layer_new() -> None:
    # softmax of 1 class and sigmoid of 2 have as many logits.
    _, second, notes, fresh = transfer(["a"], ["a", "b"], old_config=model_config("softmax"))
    name = "cls_subnet.last.weight"
    assert_close(second.state_dict()[name], fresh[name], atol=0, rtol=0)
    assert notes[1:] == [
        "last layer of the class head: new, as the checkpoint's is for softmax and this one for sigmoid"
    ]


@pytest.mark.parametrize("new", [["cat", "dog"], ["dog", "cat"]])
def test_a_class_head_with_other_inputs_stays_new_with_its_bias(new: list[str]) -> None:
    wider = model_config(fpn=FpnConfig(channels=16))
    _, model, notes, fresh = transfer(["cat", "dog"], new, config=wider)
    assert_close(model.cls_subnet.last.bias.detach(), fresh["cls_subnet.last.bias"], rtol=0, atol=0)
    assert "last layer of the class head: new, as it has other inputs" in notes


def test_no_class_in_common_is_said_and_names_that_look_alike_are_pointed_out() -> None:
    _, second, notes, fresh = transfer(["Car", "traffic_light", "dog"], ["car", "traffic light", "zebra"])
    name = "cls_subnet.last.weight"
    assert_close(second.state_dict()[name], fresh[name], atol=0, rtol=0)
    assert notes[1:] == [
        "class head by name: moved none of 3; new: car, traffic light, zebra; not used: Car, traffic_light, dog",
        "not taken for one class, though alike: 'Car' in the checkpoint and 'car' in the data, 'traffic_light' in the "
        "checkpoint and 'traffic light' in the data; where they are one, give them one name",
    ]


def test_layers_that_the_weights_lack_or_have_in_another_shape_are_new_and_named() -> None:
    deeper = model_config(head=HeadConfig(num_convs=2), fpn=FpnConfig(channels=8, p6_from="p5"))
    _, _, notes, _ = transfer(["a"], ["b", "a"], config=deeper)
    assert notes[-1] == (
        "not in it or of another shape, and therefore new: fpn.p6.weight, cls_subnet.convs.2.weight, "
        "cls_subnet.convs.2.bias, box_subnet.convs.2.weight, box_subnet.convs.2.bias"
    )
    wider = model_config(fpn=FpnConfig(channels=16), head=HeadConfig(num_convs=0))
    _, second, notes, fresh = transfer(["a"], ["b", "a"], config=wider)
    assert_close(second.state_dict()["cls_subnet.last.bias"], fresh["cls_subnet.last.bias"], atol=0, rtol=0)
    assert len(notes) == 3
    assert notes[2].endswith("fpn.output.2.bias and 5 more")  # P6, P7 and the box head's last weights


def test_weights_of_which_nothing_fits_are_an_error_that_changes_nothing() -> None:
    model = random_model(model_config(), 1, 1)
    model.register_buffer("num_batches_tracked", torch.tensor(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layout = build_head_layout(model_config(), classes(["a"]))
    weights = {"layer.weight": torch.zeros(3), "num_batches_tracked": torch.tensor(7)}
    with pytest.raises(UserError, match=r"^old\.pt: none of its 2 weights fits this network"):
        transfer_weights(model, weights, layout, layout, "old.pt")
    assert_close(model.state_dict(), before, atol=0, rtol=0)


def write_checkpoint(folder: Path, *, with_average: bool = False) -> Path:
    """Write a checkpoint whose weights are 1, and the averaged ones 2; of the backbone it has the first layer only."""
    config = load_config_text(RECIPE, "recipe").model
    weights = [
        {name: value for name, value in filled_model(config, 1, fill).state_dict().items() if ".layer" not in name}
        for fill in (1.0, 2.0)
    ]
    content = {
        "step": 1,
        "config": RECIPE,
        "categories": {"ids": [5], "names": ["a"]},
        "model": weights[0],
        "ema": {"model": weights[1], "num_updates": 1} if with_average else None,
    }
    return save_checkpoint(folder, content, step=1, is_best=False, keep=1)


@pytest.mark.parametrize("with_average", [False, True])
def test_a_network_begins_with_the_averaged_weights_if_the_checkpoint_has_them(
    tmp_path: Path, with_average: bool
) -> None:
    path = write_checkpoint(tmp_path, with_average=with_average)
    model = filled_model(model_config(), 1, 3.0)
    text = initialise_model(model, model_config(), classes(["a"]), path)
    assert text.startswith(f"initialised from {path}: ")
    moved = {name: float(value.unique()) for name, value in model.state_dict().items() if ".layer" not in name}
    assert moved == dict.fromkeys(moved, 1.0 + with_average)


def test_a_backbone_with_weights_of_its_own_stays_whole_where_the_checkpoint_has_another(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    trained = filled_model(model_config(backbone=BackboneConfig(name="resnet34", weights="none")), 1, 5.0).backbone
    torch.save(trained.state_dict(), tmp_path / "r34.pth")
    config = model_config(backbone=BackboneConfig(name="resnet34", weights=str(tmp_path / "r34.pth"), norm="batch"))
    model = filled_model(config, 1, 3.0)
    text = initialise_model(model, config, classes(["a"]), path)
    assert {float(value.unique()) for value in model.backbone.state_dict().values()} == {5.0}
    assert {float(value.unique()) for value in model.fpn.state_dict().values()} == {1.0}
    assert (
        f"backbone: resnet34 with model.backbone.weights = {tmp_path}/r34.pth, as the checkpoint has resnet18" in text
    )


def test_a_state_dict_of_another_program_is_told_where_it_belongs(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(
        UserError, match=r"resnet\.pth: a PyTorch file, but not a checkpoint .* for model\.backbone\.weights=FILE"
    ):
        initialise_model(random_model(model_config(), 1, 1), model_config(), classes(["a"]), tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        (
            Categories((1, 2), ("red", "blue")),
            r"only in the checkpoint: green; only in the data: blue\. To start a new",
        ),
        (Categories((1, 2, 3), ("red", "green", "blue")), r"other classes: only in the data: blue\. To"),
        (Categories((1,), ("red",)), r"other classes: only in the checkpoint: green\. To"),
        (Categories((1, 2), ("green", "red")), r"another order: class 0 is 'red' in the checkpoint and 'green' in the"),
        (
            Categories((0, 2), ("red", "green")),
            r"other ids \(1 differ\): 'red' is 1 in the checkpoint and 0 in the data",
        ),
    ],
)
def test_resuming_with_other_classes_names_what_differs(found: Categories, difference: str) -> None:
    content = {"categories": {"ids": [1, 2], "names": ["red", "green"]}}
    state = TrainState(model=None, optimizer=None, normalizer=None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"^last\.pt: .*{difference}.*--init-from last\.pt$"):
        state.load_checkpoint(content, "last.pt", found)


@pytest.mark.slow
def test_a_run_with_a_class_more_begins_with_what_the_other_one_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, origins = tiny_config(tmp_path, "schedule.max_steps=2", "eval.every=2")
    train(config, origins)
    first = load_checkpoint(tmp_path / "run/checkpoints/last.pt")
    annotations = tmp_path / "data/annotations.json"
    text = annotations.read_text().replace(
        '{"id": 7, "name": "red"}', '{"id": 70, "name": "red"}, {"id": 1, "name": "x"}'
    )
    annotations.write_text(text.replace('"category_id": 7,', '"category_id": 70,'))
    config, origins = tiny_config(
        tmp_path, "schedule.max_steps=1", f"output_dir={tmp_path}/second", "optimizer.lr=1e-30"
    )
    train(config, origins, init_from=tmp_path / "run/checkpoints/last.pt")
    printed = capsys.readouterr().out
    assert "  class head by name: moved green, red (2 of 3); new: x\n" in printed
    second = load_checkpoint(tmp_path / "second/checkpoints/last.pt")
    assert second["categories"] == {"ids": [1, 30, 70], "names": ["x", "green", "red"]}
    rows = [content["model"]["cls_subnet.last.weight"].unflatten(0, (9, -1)) for content in (first, second)]
    assert first["categories"]["names"] == ["red", "green"]
    assert_close(rows[1][:, [2, 1]], rows[0], atol=1e-7, rtol=0)
