"""benchmarking/memory.py and counting.py against sizes worked out by hand."""

import os

import pytest
import torch
from benchmarking.counting import count_flops
from benchmarking.memory import peak_memory, peak_process_memory

CPU = torch.device("cpu")
MB = 1_000_000
SLACK = 1000
"""Bytes of scalars that torch makes into tensors."""


def test_a_temporary_counts_while_it_lives() -> None:
    numbers = torch.ones(MB)  # 4 MB; the sum makes 4 MB, the product 4 MB more, and then the sum is released
    assert peak_memory(lambda: (numbers + 1) * 2, CPU) == pytest.approx(8 * MB, abs=SLACK)
    assert peak_memory(lambda: numbers.add_(1).mul_(2), CPU) < SLACK


def test_what_is_released_before_the_next_allocation_does_not_add_up() -> None:
    numbers = torch.ones(MB)

    def one_after_another() -> None:
        for _ in range(5):
            numbers + 1

    assert peak_memory(one_after_another, CPU) == pytest.approx(4 * MB, abs=SLACK)


def test_temporaries_inside_an_operator_count() -> None:
    numbers = torch.rand(MB)
    # The result is 12 bytes each (values and indices); the sort's own buffers come on top.
    assert peak_memory(lambda: numbers.sort(), CPU) > 12 * MB


def test_the_gradient_of_a_backward_counts() -> None:
    weights = torch.ones(MB, requires_grad=True)
    # The sum of squares keeps nothing of its own; the backward makes the gradient by way of one temporary.
    assert peak_memory(lambda: torch.autograd.grad(weights.square().sum(), weights), CPU) >= 4 * MB


def test_the_profiler_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    level = os.environ.get("KINETO_LOG_LEVEL")
    peak_memory(lambda: torch.ones(10), CPU)
    assert capfd.readouterr() == ("", "")
    assert os.environ.get("KINETO_LOG_LEVEL") == level


def test_the_process_peak_grows_with_what_it_holds() -> None:
    before = peak_process_memory()
    block = torch.ones(before // 4 + 25 * MB)  # more than the process ever had, so a new peak
    assert peak_process_memory() >= before + 50 * MB
    del block


def test_flops_of_a_convolution_and_its_gradients() -> None:
    conv = torch.nn.Conv2d(8, 16, 3, padding=1)
    images = torch.randn(2, 8, 10, 12)
    forward = 2 * 2 * 10 * 12 * 8 * 16 * 9
    assert count_flops(lambda: conv(images)) == forward
    assert count_flops(lambda: conv(images).sum().backward()) == 2 * forward  # the images need no gradient


@pytest.mark.gpu
def test_on_a_gpu_the_peak_is_the_allocators() -> None:
    numbers = torch.ones(MB, device="cuda")
    assert peak_memory(lambda: (numbers + 1) * 2, torch.device("cuda")) == pytest.approx(8 * MB, rel=0.1)
