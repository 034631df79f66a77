"""Losses, assignment and postprocessing on a GPU against the CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.anchors import AnchorGenerator
from detector.assign import Backend, assign_anchors
from detector.criterion.class_losses import sigmoid_focal_class_loss
from detector.criterion.detail import sums_by_class
from detector.losses import giou_loss, sigmoid_focal_loss, smooth_l1_loss
from detector.losses.split import ClassSums
from detector.postprocess import postprocess
from detector.structures import HeadOutputs
from tests.helpers import random_boxes
from tests.losses.focal_cases import make_levels

CUDA = torch.device("cuda")
SIZE = (128, 192)

TOLERANCES = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-6},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-6},
    torch.float16: {"rtol": 2e-3, "atol": 1e-6},
}
"""Of gradients, which come in the type of the input: its rounding. The losses are float32 sums of the same numbers."""

pytestmark = pytest.mark.gpu
each_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def assert_loss_and_gradient_equal_float64(loss: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Compare on the device, in the type of ``x``, with float64 on the CPU from the same numbers."""
    ours = x.to(CUDA, copy=True).requires_grad_()
    reference = x.double().requires_grad_()
    actual, expected = loss(ours), loss(reference)
    actual.backward()
    expected.backward()
    assert actual.dtype == torch.float32
    assert ours.grad is not None
    assert reference.grad is not None
    assert_close(actual.cpu().double(), expected.detach(), rtol=1e-5, atol=1e-6)
    assert_close(ours.grad.cpu().double(), reference.grad, **TOLERANCES[x.dtype])


@each_dtype
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 0.0)])
def test_focal_loss_equals_float64(dtype: torch.dtype, alpha: float | None, gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(500, 20, generator=generator) * 3 - 2).to(dtype)
    labels = torch.randint(-2, 20, (500,), generator=generator)

    def loss(x: Tensor) -> Tensor:
        foreground, background = sigmoid_focal_loss(x, labels.to(x.device), alpha=alpha, gamma=gamma)
        return foreground + 0.5 * background

    assert_loss_and_gradient_equal_float64(loss, logits)


@each_dtype
@pytest.mark.parametrize("num_classes", [1, 80, 1203])
def test_the_focal_loss_by_class_is_that_of_the_cpu(num_classes: int, dtype: torch.dtype) -> None:
    logits, labels = make_levels(num_classes, dtype, (3000, 0, 1, 170))
    loss = sigmoid_focal_class_loss(backend="triton")
    assert loss.by_class is not None
    sums = loss.by_class([level.to(CUDA) for level in logits], [level.to(CUDA) for level in labels])
    assert sums is not None
    expected = sums_by_class(sigmoid_focal_class_loss(), logits, labels, None, num_classes=num_classes)
    for name in ClassSums.__dataclass_fields__:
        assert_close(getattr(sums, name).cpu(), getattr(expected, name), rtol=1e-5, atol=1e-6)


@each_dtype
@pytest.mark.parametrize("beta", [0.0, 0.125])
def test_smooth_l1_loss_equals_float64(dtype: torch.dtype, beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    deltas, targets = torch.randn(2, 500, 4, generator=generator)
    assert_loss_and_gradient_equal_float64(
        lambda x: smooth_l1_loss(x, targets.to(x.device), beta=beta).sum(), deltas.to(dtype)
    )


@each_dtype
def test_giou_loss_equals_float64(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, targets = random_boxes(500, generator), random_boxes(500, generator)
    assert_loss_and_gradient_equal_float64(lambda x: giou_loss(x, targets.to(x.device)).sum(), boxes.to(dtype))


@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
@pytest.mark.parametrize("allow_low_quality_matches", [True, False])
def test_assignment_is_identical_to_the_cpus(allow_low_quality_matches: bool, backend: Backend) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.stack([random_boxes(9, generator, SIZE) for _ in range(3)])
    boxes[:, 8] = boxes[:, 0]  # a tie: the first one gets the anchors
    gt_ignore = torch.rand(3, 9, generator=generator) < 0.2
    rows = (boxes, torch.randint(0, 5, (3, 9), generator=generator), ~gt_ignore, gt_ignore)
    anchors = AnchorGenerator(sizes=(16, 32, 64, 128, 256))
    shapes = anchors.feature_shapes(SIZE)
    expected = assign_anchors(anchors(shapes), *rows, allow_low_quality_matches=allow_low_quality_matches)
    actual = assign_anchors(
        anchors(shapes, CUDA),
        *(row.to(CUDA) for row in rows),
        allow_low_quality_matches=allow_low_quality_matches,
        backend=backend,
    )
    assert expected.foreground.any()
    for name in ("target_labels", "matched_idxs", "matched_boxes", "num_unmatched_gt"):
        assert_close(getattr(actual, name).cpu(), getattr(expected, name), rtol=0, atol=0, msg=name)


def test_postprocessing_equals_the_cpus() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = AnchorGenerator(sizes=(16, 32, 64, 128, 256))
    shapes = anchors.feature_shapes(SIZE)
    counts = [height * width * anchors.num_per_cell for height, width in shapes]
    outputs = HeadOutputs(
        tuple(torch.randn(2, n, 5, generator=generator) * 1.5 - 4 for n in counts),
        tuple(torch.randn(2, n, 4, generator=generator) * 0.3 for n in counts),
    )
    on_device = HeadOutputs(
        tuple(level.to(CUDA) for level in outputs.cls_logits), tuple(level.to(CUDA) for level in outputs.bbox_deltas)
    )
    sizes, original_sizes = [SIZE, (100, 192)], [(256, 384), (333, 640)]
    actual = postprocess(on_device, anchors(shapes, CUDA), sizes, original_sizes, topk_per_level=300)
    expected = postprocess(outputs, anchors(shapes), sizes, original_sizes, topk_per_level=300)
    for ours, theirs in zip(actual, expected, strict=True):
        assert len(theirs.scores) == 100
        assert ours.boxes.is_cuda
        assert_close(ours.to("cpu").scores, theirs.scores, rtol=1e-5, atol=1e-7)
        assert_close(ours.to("cpu").labels, theirs.labels)
        assert_close(ours.to("cpu").boxes, theirs.boxes, rtol=1e-5, atol=1e-3)
