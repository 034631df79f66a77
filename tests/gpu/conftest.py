"""Switches of torch that a test turns and that the next one must find as they were."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _restore_switches() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def _exact_convolutions() -> Iterator[None]:
    """Float32 convolutions in float32: cuDNN would otherwise take TF32, with 10 bits of mantissa."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    yield
    convolutions.fp32_precision = before
