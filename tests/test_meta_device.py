"""The train step on the meta device: no tensor is made on the wrong device, and nothing waits for the device.

What a GPU would show only as a slow step is an error here: reading a value has no answer on the meta device, and
every operation that mixes it with the CPU is noticed.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

import pytest
import torch
from benchmarking.blocking_reads import as_on_a_device
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detector.anchors import AnchorGenerator
from detector.config import BackboneConfig, BoxLossConfig, ClsLossConfig, FpnConfig, HeadConfig, ModelConfig
from detector.criterion import ClassLoss, Criterion, LossNormalizer, NormalizerMode, build_class_loss
from detector.data.normalize import normalize_images
from detector.engine.ema import WeightAverage
from detector.engine.matcher import Matcher
from detector.engine.state import TrainState
from detector.engine.step import Stepper
from detector.models import RetinaNet, build_model
from detector.structures import Batch, HeadOutputs
from tests.criterion.cases import CLASS_LOSSES, every_class_loss, num_logits
from tests.helpers import random_boxes

META = torch.device("meta")
NUM_CLASSES = 3

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique", "lift_fresh", "equal.")
"""Operations that read from the device, have a size that depends on values, or copy a number from the host."""


NORMALIZERS = {mode: LossNormalizer(mode) for mode in ("batch", "image")}


class Watch(TorchDispatchMode):
    """Counts operations and collects those during which a GPU would wait for the host or the host for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.num_operations = 0
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        self.num_operations += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if name.startswith(WAITING) or len({tensor.device for tensor in tensors}) > 1:
            self.waits.append(name)
        indices = [leaf for leaf in tree_leaves(args[1:2]) if isinstance(leaf, Tensor)]
        if name.startswith("index") and any(index.dtype == torch.bool for index in indices):
            self.waits.append(f"{name} with a mask")
        return result


def make_batch(num_images: int = 2, num_gt: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 3, (num_images, num_gt), generator=generator)
    return Batch(
        images=torch.randint(0, 256, (num_images, 64, 96, 3), generator=generator, dtype=torch.uint8),
        sizes=torch.tensor([[64, 90]] * num_images),
        gt_boxes=random_boxes(num_images * num_gt, generator, (64, 96)).view(num_images, num_gt, 4),
        gt_labels=torch.randint(0, NUM_CLASSES, (num_images, num_gt), generator=generator),
        gt_mask=kind == 0,
        gt_ignore=kind == 1,
        image_ids=tuple(range(num_images)),
        original_sizes=((64, 90),) * num_images,
    )


def make_model(norm: Any = "batch", activation: Any = "sigmoid") -> RetinaNet:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", weights="none", norm=norm, frozen_stages=1),
        fpn=FpnConfig(channels=16),
        head=HeadConfig(num_convs=1, norm="group", activation=activation),
    )
    return build_model(config, num_classes=NUM_CLASSES)


def make_head(batch: Batch, num_logits: int = NUM_CLASSES) -> nn.Module:
    """A network of one layer with the outputs of RetinaNet for the batch's padded size: only the rest is watched."""
    generator = AnchorGenerator()
    height, width = batch.images.shape[1:3]
    counts = [h * w * generator.num_per_cell for h, w in generator.feature_shapes((height, width))]

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_logits = nn.ParameterList(torch.zeros(1, n, num_logits) for n in counts)
            self.bbox_deltas = nn.ParameterList(torch.zeros(1, n, 4) for n in counts)

        def forward(self, images: Tensor) -> HeadOutputs:
            n = len(images)
            return HeadOutputs(
                tuple(x.expand(n, -1, -1) for x in self.cls_logits),
                tuple(x.expand(n, -1, -1) for x in self.bbox_deltas),
            )

    return Head()


def make_matcher() -> Matcher:
    return Matcher(
        AnchorGenerator(),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.4,
        allow_low_quality_matches=True,
        ignore_ioa_thresh=0.5,
        backend="eager",  # what a device would get; on the CPU itself, values may be read
    )


def step(
    network: Callable[[Tensor], Any],
    matcher: Matcher,
    batch: Batch,
    box_loss: Any = "giou",
    mode: Any = "image",
    class_loss: ClassLoss | None = None,
    detail: bool = False,
) -> Tensor:
    """Normalisation, forward, assignment, losses (and their split by class) and backward; returns the loss."""
    outputs = network(normalize_images(batch.images, batch.sizes))
    anchors, targets = matcher(batch)
    normalizer = NORMALIZERS[mode](targets.num_foreground, targets.num_foreground.sum(), len(batch.images))
    criterion = Criterion(class_loss=class_loss, box_loss=box_loss, box_beta=0.1)
    losses = criterion(outputs, targets, anchors, normalizer)
    losses.total.backward()
    if detail:
        truth = batch.gt_labels, batch.gt_mask
        criterion.detail(outputs, targets, anchors, normalizer, *truth, num_classes=NUM_CLASSES).stack()
        losses.stack()
    return losses.total


def warm(matcher: Matcher, batch: Batch) -> Matcher:
    matcher.anchors(batch.images)  # made on the CPU once per shape, and kept on the device
    return matcher


def warm_class_loss(config: ClsLossConfig, device: str) -> ClassLoss:
    class_loss = build_class_loss(config, NUM_CLASSES)
    class_loss.background_terms(torch.zeros(1, num_logits(config), device=device))  # weights of classes are copied once
    return class_loss


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
@pytest.mark.parametrize(("box_loss", "mode"), [("smooth_l1", "batch"), ("giou", "image")])
def test_the_whole_step_stays_on_the_meta_device(norm: str, box_loss: str, mode: NormalizerMode) -> None:
    batch, model = make_batch().to(META), make_model(norm).to(META)
    matcher = warm(make_matcher(), batch)
    with Watch() as watch:
        loss = step(model, matcher, batch, box_loss, mode)
    assert loss.device == META
    assert watch.waits == []
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.device == META


@every_class_loss
@pytest.mark.parametrize("mode", ["batch", "image"])
def test_with_any_class_loss_the_losses_and_their_split_stay_on_the_meta_device(
    config: ClsLossConfig, mode: NormalizerMode
) -> None:
    batch, network = make_batch(), make_head(make_batch(), num_logits(config)).to(META)
    batch, class_loss = batch.to(META), warm_class_loss(config, "meta")
    matcher = warm(make_matcher(), batch)
    with Watch() as watch:
        loss = step(network, matcher, batch, "ciou", mode, class_loss, detail=True)
    assert loss.device == META
    assert watch.waits == []
    assert all(parameter.grad is not None and parameter.grad.device == META for parameter in network.parameters())


def test_a_softmax_network_stays_on_the_meta_device() -> None:
    batch, model = make_batch().to(META), make_model(activation="softmax").to(META)
    matcher = warm(make_matcher(), batch)
    class_loss = warm_class_loss(CLASS_LOSSES["softmax_focal"], "meta")
    with Watch() as watch:
        step(model, matcher, batch, class_loss=class_loss, detail=True)
    assert watch.waits == []


def test_anchors_and_targets_are_made_where_the_batch_is() -> None:
    anchors, targets = make_matcher()(make_batch().to(META))
    tensors = (targets.target_labels, targets.matched_idxs, targets.matched_boxes, targets.num_unmatched_gt)
    assert {tensor.device for tensor in (anchors, *tensors, targets.num_foreground)} == {META}


def test_a_batch_without_ground_truth_stays_there_too() -> None:
    batch, model = make_batch(num_gt=0).to(META), make_model().to(META)
    matcher = warm(make_matcher(), batch)
    with Watch() as watch:
        step(model, matcher, batch)
    assert watch.waits == []


def test_the_running_mean_of_the_normalizer_moves_to_the_device_once() -> None:
    normalizer, total = LossNormalizer("ema"), torch.zeros((), dtype=torch.int64, device=META)
    normalizer.update(total, 2, ok=torch.zeros((), dtype=torch.bool, device=META))
    with Watch() as watch:
        divisor = normalizer(total, total, 2)
        normalizer.update(total, 2, ok=torch.zeros((), dtype=torch.bool, device=META))
    assert watch.waits == []
    assert divisor.device == normalizer.mean_foreground.device == META


@pytest.mark.parametrize("box_loss", BoxLossConfig.model_json_schema()["properties"]["name"]["enum"])
def test_assignment_and_losses_read_nothing_and_have_no_size_that_depends_on_values(box_loss: str) -> None:
    batch, matcher = make_batch(), make_matcher()
    network = make_head(batch)
    warm(matcher, batch)
    with as_on_a_device(), Watch() as watch:
        loss = step(network, matcher, batch, box_loss)
    assert watch.waits == []
    assert loss.isfinite()


@pytest.mark.parametrize(
    "config",
    # A softmax loss looks on the CPU whether the targets are in range; on other devices see the test above.
    [config for config in CLASS_LOSSES.values() if config.activation == "sigmoid"],
    ids=lambda config: f"{config.name} {config.alpha}",
)
def test_class_losses_and_their_split_read_nothing_and_have_no_size_that_depends_on_values(
    config: ClsLossConfig,
) -> None:
    batch, matcher = make_batch(), make_matcher()
    network, class_loss = make_head(batch), warm_class_loss(config, "cpu")
    warm(matcher, batch)
    with as_on_a_device(), Watch() as watch:
        loss = step(network, matcher, batch, class_loss=class_loss, detail=True)
    assert watch.waits == []
    assert loss.isfinite()


@every_class_loss
def test_the_number_of_operations_does_not_grow_with_images_and_ground_truths(config: ClsLossConfig) -> None:
    counts = []
    for batch in (make_batch(2, 2), make_batch(6, 40)):
        matcher, network = warm(make_matcher(), batch), make_head(batch, num_logits(config))
        class_loss = warm_class_loss(config, "cpu")
        with Watch() as watch:
            step(network, matcher, batch, class_loss=class_loss)
        counts.append(watch.num_operations)
    assert counts[0] == counts[1]


def test_the_watch_notices_what_it_is_for() -> None:
    x, mask = torch.zeros(3), torch.tensor([True, False, True])
    for wait in (x.sum().item, lambda: x[mask], mask.nonzero, lambda: x.masked_select(mask), lambda: bool(x[0] > 0)):
        with Watch() as watch:
            wait()
        assert watch.waits
    for wait in (lambda: x.to(META), lambda: torch.zeros(3, device=META) + x.sum(), lambda: x.new_tensor(3.0)):
        with Watch() as watch:
            wait()
        assert watch.waits


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_the_train_loops_step_stays_on_the_meta_device(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither autocast nor fused optimisers know the meta device.
    monkeypatch.setattr("detector.engine.forward.autocast", lambda *_: nullcontext())
    monkeypatch.setattr("detector.engine.step.masked_step", lambda optimizer, ok: optimizer.step())
    model = make_model(norm).to(META)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=False)
    state = TrainState(model, optimizer, LossNormalizer("ema"), ema=WeightAverage(model, 0.9))
    batch = make_batch().to(META)
    result = Stepper(state, make_matcher(), Criterion(), clip_grad_norm=1.0)([batch, batch], detail=True)
    totals, losses, detail = result.totals, result.totals.losses, result.totals.detail
    assert detail is not None
    values = [totals.num_gt, totals.num_unmatched_gt, totals.normalizer, totals.grad_norm, totals.stack()]
    values += [getattr(part, field.name) for part in (losses, detail) for field in fields(part)]
    assert {value.device for value in values} == {META}
    assert state.normalizer.mean_foreground.device == META


@pytest.mark.gpu
@every_class_loss
def test_on_a_gpu_the_step_does_not_wait_and_its_loss_equals_the_cpus(config: ClsLossConfig) -> None:
    batch, matcher = make_batch(), make_matcher()
    logits = num_logits(config)
    expected = step(make_head(batch, logits), matcher, batch, class_loss=build_class_loss(config, NUM_CLASSES))
    on_gpu = batch.to(torch.device("cuda"))
    network, class_loss = make_head(batch, logits).cuda(), warm_class_loss(config, "cuda")
    warm(matcher, on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step(network, matcher, on_gpu, class_loss=class_loss, detail=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(loss.cpu(), expected)
