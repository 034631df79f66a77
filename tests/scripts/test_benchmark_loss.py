"""scripts/benchmark_loss.py, and by its cases the memory of the loss."""

import json
import sys
from pathlib import Path

import benchmark_loss
import pytest
import torch
from benchmarking import TARGETS

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_loss_takes_the_gradient_and_a_slice_beside_the_logits(dtype: torch.dtype) -> None:
    peaks = []
    for num_anchors in (25_000, 50_000, 100_000):
        case = benchmark_loss.make_case(1, num_anchors, 80, dtype=dtype, device=CPU)
        call = benchmark_loss._ours(case, "eager")
        call()
        peaks.append(benchmark_loss.peak_of(case, call, CPU))
        num_bytes = case.num_bytes
    # The slice has its size whatever the logits: what is added to them is what they grow by, and little else.
    growth = [(peaks[1] - peaks[0]) / (num_bytes / 4), (peaks[2] - peaks[1]) / (num_bytes / 2)]
    assert min(growth) >= 1
    assert max(growth) <= 1.05
    assert peaks[2] - growth[1] * num_bytes <= 5 * 2**19 + 2**17  # four or five buffers of 2**17 numbers


def test_it_reports_every_figure_of_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loss.json"
    options = ["--anchors", "400", "--classes", "3", "--device", "cpu", "--repeats", "3", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["benchmark_loss.py", *options])
    monkeypatch.setattr(benchmark_loss, "measure_ceilings", lambda *_: benchmark_loss.Ceilings(copy=1e10))
    benchmark_loss.main()
    content = json.loads(path.read_text())
    measured = {figure["figure"] for figure in content["figures"]}
    targets = {key for key in TARGETS if key.startswith("loss.")}
    assert targets <= measured
    assert all(figure["value"] > 0 for figure in content["figures"])
