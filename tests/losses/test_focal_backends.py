"""The fused focal loss against torchvision's in float64, on every backend that computes here.

Triton's kernels need a GPU or its interpreter; the last test runs this file once more under the interpreter.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from benchmarking.blocking_reads import as_on_a_device, blocking_reads
from torch import Tensor
from torch.testing import assert_close

from detector.losses import FocalSums, focal_eager, focal_slices
from detector.losses.focal_backend import FocalBackend, focal_kernels, triton_hindrance
from detector.losses.sigmoid_focal import sigmoid_focal_sums, sigmoid_focal_sums_by_autograd
from detector.structures import BACKGROUND, IGNORE
from tests.losses.focal_cases import CPU, make_levels

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"

TOLERANCES = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-14},
    torch.float32: {"rtol": 1e-5, "atol": 1e-8},
    # Rounded twice, with what is kept and with the factor, and Triton's interpreter cuts instead.
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 1e-8},
    torch.float16: {"rtol": 1e-3, "atol": 1e-7},
}
"""Of the gradient, which comes in the type of the logits."""

backends = pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param(
            "triton", marks=pytest.mark.skipif(triton_hindrance(CPU) is not None, reason="needs Triton's interpreter")
        ),
    ],
)


def reference(
    logits: Sequence[Tensor], labels: Sequence[Tensor], alpha: Any, gamma: float
) -> tuple[list[Tensor], FocalSums]:
    """Leaves in float64 and the sums from them, by torchvision and masks."""
    leaves = [level.detach().double().requires_grad_() for level in logits]
    num_classes = logits[0].shape[-1]
    parts = []
    for x, y in zip(leaves, labels, strict=True):
        target = (y.unsqueeze(-1) == torch.arange(num_classes)).double()
        if isinstance(alpha, Sequence):
            terms = torchvision.ops.sigmoid_focal_loss(x, target, alpha=-1, gamma=gamma)
            own = torch.tensor(alpha, dtype=torch.float64)
            terms = terms * (own * target + (1 - own) * (1 - target))
        else:
            terms = torchvision.ops.sigmoid_focal_loss(x, target, alpha=-1 if alpha is None else alpha, gamma=gamma)
        losses = terms.sum(dim=-1)
        masks = (y >= 0, y == BACKGROUND, y < BACKGROUND)
        parts.append([*((losses * mask).sum(dim=1) for mask in masks[:2]), *(mask.sum(dim=1) for mask in masks)])
    return leaves, FocalSums(*(torch.stack(levels, dim=1) for levels in zip(*parts, strict=True)))


def weighted(sums: FocalSums) -> Tensor:
    """A scalar with another upstream gradient for every image, level and kind."""
    num = sums.foreground.numel()
    weights = torch.linspace(0.3, 2.0, 2 * num).view(2, *sums.foreground.shape)
    return (sums.foreground * weights[0]).sum() + (sums.background * weights[1]).sum()


def leaves_of(logits: Sequence[Tensor]) -> list[Tensor]:
    return [level.detach().requires_grad_() for level in logits]


def assert_equals_reference(
    backend: FocalBackend, logits: list[Tensor], labels: list[Tensor], alpha: Any = 0.25, gamma: float = 2.0
) -> None:
    ours = leaves_of(logits)
    sums = sigmoid_focal_sums(ours, labels, alpha=alpha, gamma=gamma, backend=backend)
    leaves, expected = reference(logits, labels, alpha, gamma)
    dtype = logits[0].dtype
    sums_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    assert sums.foreground.dtype == sums.background.dtype == sums_dtype
    exact = dtype == torch.float64
    for name in ("foreground", "background"):
        actual = getattr(sums, name).double()
        assert_close(actual, getattr(expected, name), rtol=1e-10 if exact else 1e-5, atol=1e-12 if exact else 1e-6)
    for name in ("num_foreground", "num_background", "num_ignored"):
        assert torch.equal(getattr(sums, name), getattr(expected, name)), name
    weighted(sums).backward()
    weighted(expected).backward()
    for x, y in zip(ours, leaves, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        assert x.grad.dtype == dtype
        assert_close(x.grad.double(), y.grad, **TOLERANCES[dtype])


@backends
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("num_classes", [1, 80, 1203])
def test_value_gradient_and_split_equal_float64(backend: FocalBackend, num_classes: int, dtype: torch.dtype) -> None:
    if backend == "triton" and dtype == torch.float64:
        pytest.skip("Triton takes float32 and halves")
    num_anchors = (123, 0, 1, 17) if num_classes < 100 else (9, 0, 1, 3)
    assert_equals_reference(backend, *make_levels(num_classes, dtype, num_anchors))


@backends
@pytest.mark.parametrize("kind", ["objects", "background", "ignored"])
def test_anchors_of_one_kind_equal_float64(backend: FocalBackend, kind: str) -> None:
    assert_equals_reference(backend, *make_levels(7, torch.float32, kind=kind))


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5.0])
@pytest.mark.parametrize("alpha", [None, 0, 1.0, (0.0, 0.3, 1.0)], ids=str)
def test_every_alpha_and_gamma_equals_float64(
    backend: FocalBackend, alpha: Any, gamma: float, dtype: torch.dtype
) -> None:
    assert_equals_reference(backend, *make_levels(3, dtype, (40,)), alpha=alpha, gamma=gamma)


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("num_images", "num_anchors", "num_classes"), [(0, 4, 5), (3, 0, 5), (2, 4, 0)])
def test_nothing_has_no_loss_and_an_empty_gradient(
    backend: FocalBackend, num_images: int, num_anchors: int, num_classes: int, dtype: torch.dtype
) -> None:
    logits = torch.zeros(num_images, num_anchors, num_classes, dtype=dtype, requires_grad=True)
    labels = torch.full((num_images, num_anchors), BACKGROUND)
    sums = sigmoid_focal_sums([logits], [labels], backend=backend)
    total = sums.foreground.sum() + sums.background.sum()
    total.backward()
    assert total == 0
    assert logits.grad is not None
    assert logits.grad.shape == logits.shape


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_logits_with_any_strides_equal_float64(backend: FocalBackend, dtype: torch.dtype) -> None:
    (logits,), labels = make_levels(5, dtype, (24,))
    transposed = logits.transpose(1, 2).contiguous().transpose(1, 2)
    stretched = torch.zeros(2, 48, 10).to(dtype)[:, ::2, ::2].copy_(logits)
    one_image = logits[:1].expand(2, -1, -1)
    for x in (transposed, stretched, one_image):
        assert not x.is_contiguous()
        assert_equals_reference(backend, [x], labels)
    rows = torch.cat([*labels, *labels], dim=1).split([24, 24], dim=1)  # as a view of the labels of all levels
    assert_equals_reference(backend, [logits, transposed], list(rows))


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_divisor_changes_no_result(backend: FocalBackend, dtype: torch.dtype) -> None:
    logits, labels = make_levels(5, dtype, (33, 6))
    gradients = {}
    for divisor in (1.0, torch.tensor(7.0), torch.tensor([[3.0], [7.0]])):
        leaves = leaves_of(logits)
        sums = sigmoid_focal_sums(leaves, labels, divisor=divisor, backend=backend)
        assert_close(sums.foreground, sigmoid_focal_sums(logits, labels, backend=backend).foreground, rtol=0, atol=0)
        ((sums.foreground / 7.0).sum() + (sums.background / 7.0).sum()).backward()
        gradients[str(divisor)] = torch.cat([leaf.grad for leaf in leaves], dim=1)  # type: ignore[misc]
    first, *others = gradients.values()
    for other in others:
        assert_close(other, first, **TOLERANCES[dtype])


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_backward_may_run_again_where_the_graph_is_retained(backend: FocalBackend, dtype: torch.dtype) -> None:
    logits, labels = make_levels(5, dtype, (33, 6))
    leaves = leaves_of(logits)
    sums = sigmoid_focal_sums(leaves, labels, backend=backend)
    foreground, background = sums.foreground.sum(), sums.background.sum()
    parts = [torch.autograd.grad(part, leaves, retain_graph=True) for part in (foreground, background, foreground)]
    both = torch.autograd.grad(foreground + background, leaves)
    assert_close(parts[0], parts[2], rtol=0, atol=0)
    for fg, bg, total, y in zip(parts[0], parts[1], both, labels, strict=True):
        assert not fg[y < 0].any()
        assert not bg[y != BACKGROUND].any()
        assert_close(fg + bg, total, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(foreground, leaves)


@backends
def test_a_second_derivative_is_refused(backend: FocalBackend) -> None:
    logits, labels = make_levels(3, torch.float32, (4,))
    leaves = leaves_of(logits)
    sums = sigmoid_focal_sums(leaves, labels, backend=backend)
    with pytest.raises(RuntimeError, match=r"no second derivative \(create_graph=True\); .*sums_by_autograd has"):
        torch.autograd.grad(sums.foreground.sum(), leaves, create_graph=True)
    by_autograd = sigmoid_focal_sums_by_autograd(leaves, labels)
    (gradient,) = torch.autograd.grad(by_autograd.foreground.sum(), leaves, create_graph=True)
    assert torch.autograd.grad(gradient.sum(), leaves)[0].any()


@backends
def test_without_gradients_the_sums_are_the_same(backend: FocalBackend) -> None:
    logits, labels = make_levels(5, torch.bfloat16, (33, 6))
    expected = sigmoid_focal_sums(leaves_of(logits), labels, backend=backend)
    with torch.inference_mode():
        sums = sigmoid_focal_sums(logits, labels, backend=backend)
    assert not sums.foreground.requires_grad
    assert_close((sums.foreground, sums.background), (expected.foreground, expected.background), rtol=0, atol=0)


@backends
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_huge_logits_are_finite_and_infinite_ones_of_other_anchors_do_no_harm(
    backend: FocalBackend, gamma: float, dtype: torch.dtype
) -> None:
    row = torch.tensor([1e4, -1e4, 100.0, -100.0], dtype=dtype)
    logits = torch.stack([row, row, row, row, row * torch.inf])[None].repeat(2, 1, 1)
    labels = torch.tensor([[0, 1, 3, BACKGROUND, IGNORE]] * 2)
    assert_equals_reference(backend, [logits[:, :4]], [labels[:, :4]], gamma=gamma)
    whole, kept = (sigmoid_focal_sums([logits[:, :n]], [labels[:, :n]], gamma=gamma, backend=backend) for n in (5, 4))
    assert_close((whole.foreground, whole.background), (kept.foreground, kept.background), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_slices_of_any_size_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    logits, labels = make_levels(3, dtype, (50, 7), kind="mixed")
    results = []
    for size in (2**17, 100, 1):
        monkeypatch.setattr(focal_slices, "_SLICE", size)
        monkeypatch.setattr(focal_slices, "_SLICE_OF_THREAD", 1)
        leaves = leaves_of(logits)
        sums = sigmoid_focal_sums(leaves, labels, backend="eager")
        weighted(sums).backward()
        results.append((sums.foreground, sums.background, *(leaf.grad for leaf in leaves)))
    assert_close(results[1], results[0], rtol=0, atol=0)
    assert_close(results[2], results[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_eager_form_for_accelerators_reads_nothing_and_equals_float64(dtype: torch.dtype) -> None:
    given = make_levels(80, dtype)
    with as_on_a_device():
        assert_equals_reference("eager", *given)
        leaves = leaves_of(given[0])

        def step() -> None:
            sums = sigmoid_focal_sums(leaves, given[1], divisor=torch.tensor([[2.0], [3.0]]), backend="eager")
            weighted(sums).backward()

        assert blocking_reads(step) == []


def test_a_compiler_sees_the_plain_form() -> None:
    logits, labels = make_levels(5, torch.float32, (33, 6))
    compiled = torch.compile(sigmoid_focal_sums, fullgraph=True, backend="eager")
    actual, expected = compiled(logits, labels), sigmoid_focal_sums(logits, labels)
    assert_close(actual.foreground, expected.foreground)
    assert_close(actual.background, expected.background)


@pytest.mark.skipif(INTERPRETS, reason="the interpreter computes on a CPU")
def test_triton_where_it_cannot_compute_is_refused() -> None:
    logits, labels = make_levels(5, torch.float32, (3,))
    with pytest.raises(ValueError, match=r"triton backend .* cannot be used: .*(CUDA device, found cpu|not installed)"):
        sigmoid_focal_sums(logits, labels, backend="triton")
    with pytest.raises(ValueError, match=r"it takes float32, bfloat16 or float16, found torch\.float64"):
        focal_kernels("triton", logits[0].double())
    assert focal_kernels("auto", logits[0]) is focal_eager.EAGER


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETS, reason="this is the run")
def test_triton_computes_the_same_under_its_interpreter() -> None:
    pytest.importorskip("triton")
    root, by_class = Path(__file__).parents[2], Path(__file__).with_name("test_focal_by_class.py")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "triton and not refused and not interpreter"]
    command += [__file__, str(by_class)]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout
