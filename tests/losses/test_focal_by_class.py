"""The focal loss by class in one pass, against torchvision's in float64 and against what the criterion does elsewhere.

Under Triton's interpreter these tests run from test_focal_backends.py.
"""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close

from detector.criterion import ClassDetail, Criterion
from detector.criterion.class_losses import sigmoid_focal_class_loss
from detector.criterion.detail import sums_by_class
from detector.losses.focal_backend import triton_hindrance
from detector.losses.sigmoid_focal import sigmoid_focal_sums, sigmoid_focal_sums_by_class
from detector.losses.split import ClassSums
from detector.structures import BACKGROUND, AnchorTargets, HeadOutputs
from tests.losses.focal_cases import CPU, make_levels

needs_triton = pytest.mark.skipif(triton_hindrance(CPU) is not None, reason="needs Triton's interpreter")
on_triton = pytest.mark.parametrize("backend", [pytest.param("triton", marks=needs_triton)])


def reference(logits: list[Tensor], labels: list[Tensor], alpha: Any, gamma: float) -> ClassSums:
    """The sums in float64, by torchvision and masks."""
    x, y = torch.cat(logits, dim=1).double(), torch.cat(labels, dim=1)
    is_own = y.unsqueeze(-1) == torch.arange(x.shape[-1])  # nowhere true where the label is negative
    terms = torchvision.ops.sigmoid_focal_loss(x, is_own.double(), alpha=-1, gamma=gamma)
    if alpha is not None:
        own = torch.as_tensor(alpha, dtype=torch.float64)
        terms = terms * torch.where(is_own, own, 1 - own)
    background = y == BACKGROUND
    return ClassSums(
        (terms.sum(dim=-1, keepdim=True) * is_own).sum(dim=1),
        (terms * background.unsqueeze(-1)).sum(dim=1),
        is_own.sum(dim=1),
        (x.sigmoid() * is_own).sum(dim=(1, 2)),
        (x.sigmoid().amax(dim=-1) * background).sum(dim=1),
    )


def assert_close_sums(actual: ClassSums | None, expected: ClassSums) -> None:
    assert actual is not None
    for name in ClassSums.__dataclass_fields__:
        assert_close(getattr(actual, name), getattr(expected, name), rtol=1e-5, atol=1e-6, msg=lambda m, n=name: n + m)


@on_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("num_classes", "num_anchors"), [(1, (5000, 0, 1)), (80, (600, 1, 33)), (1203, (20, 0, 1))])
def test_the_sums_by_class_equal_float64(
    backend: Any, num_classes: int, num_anchors: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_classes > 1000:  # several programs an image here too
        monkeypatch.setattr("detector.losses.focal_triton._ROWS", 8)
    logits, labels = make_levels(num_classes, dtype, num_anchors)
    sums = sigmoid_focal_sums_by_class(logits, labels, backend=backend)
    assert_close_sums(sums, reference(logits, labels, 0.25, 2.0))


@on_triton
@pytest.mark.parametrize("gamma", [0, 0.5, 5.0])
@pytest.mark.parametrize("alpha", [None, 1.0, (0.0, 0.3, 1.0)], ids=str)
def test_every_alpha_and_gamma_by_class_equals_float64(backend: Any, alpha: Any, gamma: float) -> None:
    logits, labels = make_levels(3, torch.float32, (40,))
    sums = sigmoid_focal_sums_by_class(logits, labels, alpha=alpha, gamma=gamma, backend=backend)
    assert_close_sums(sums, reference(logits, labels, alpha, gamma))


@on_triton
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
def test_any_strides_and_infinite_logits_of_ignored_anchors_are_fine_by_class(backend: Any) -> None:
    (logits,), (labels,) = make_levels(5, torch.float32, (24,))
    transposed = logits.transpose(1, 2).contiguous().transpose(1, 2)
    rows = torch.cat((labels, labels), dim=1)[:, :24]
    expected = reference([logits], [labels], 0.25, 2.0)
    assert_close_sums(sigmoid_focal_sums_by_class([transposed], [rows], backend=backend), expected)
    infinite = torch.where((labels < BACKGROUND).unsqueeze(-1), torch.inf, logits)
    assert (labels < BACKGROUND).any()
    assert_close_sums(sigmoid_focal_sums_by_class([infinite], [labels], backend=backend), expected)


@on_triton
@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 4, 0), (0, 4, 5)])
def test_nothing_has_no_sums_by_class(backend: Any, shape: tuple[int, int, int]) -> None:
    sums = sigmoid_focal_sums_by_class([torch.zeros(shape)], [torch.full(shape[:2], BACKGROUND)], backend=backend)
    assert sums is not None
    assert sums.foreground.shape == (shape[0], shape[2])
    assert not any(getattr(sums, name).any() for name in ClassSums.__dataclass_fields__)


@on_triton
@pytest.mark.parametrize("normalizer", [5.0, torch.tensor(5.0), torch.tensor([3.0, 7.0])], ids=str)
def test_the_criterion_takes_the_sums_by_class_from_one_pass(
    backend: Any, normalizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = make_levels(7, torch.float32)
    target_labels = torch.cat(labels, dim=1)
    boxes = torch.zeros(*target_labels.shape, 4)
    outputs = HeadOutputs(tuple(logits), tuple(torch.zeros(*level.shape, 4) for level in labels))
    targets = AnchorTargets(target_labels, torch.zeros_like(target_labels), boxes, torch.zeros(2))
    gt_labels, gt_mask = torch.tensor([[1, 4], [6, 0]]), torch.tensor([[True, True], [True, False]])

    def detail(backend: Any) -> ClassDetail:
        loss = sigmoid_focal_class_loss(alpha=[0.1 * k for k in range(7)], gamma=1.5, backend=backend)
        criterion = Criterion(class_loss=loss)
        return criterion.detail(outputs, targets, boxes[0], normalizer, gt_labels, gt_mask, num_classes=7)

    expected = detail("eager").stack()
    monkeypatch.delattr("detector.criterion.detail.sums_by_class")
    assert_close(detail(backend).stack(), expected, rtol=1e-5, atol=1e-6)


def test_elsewhere_there_is_none_and_the_slow_way_equals_float64() -> None:
    logits, labels = make_levels(7, torch.float32)
    assert sigmoid_focal_sums_by_class(logits, labels, backend="eager") is None
    loss = sigmoid_focal_class_loss(backend="eager")
    sums = sums_by_class(loss, logits, labels, None, num_classes=7)
    assert_close_sums(sums, reference(logits, labels, 0.25, 2.0))
    split = sigmoid_focal_sums(logits, labels, backend="eager")
    assert_close(sums.foreground.sum(dim=1).float(), split.foreground.sum(dim=1))
    assert_close(sums.background.sum(dim=1).float(), split.background.sum(dim=1))
