"""scripts/benchmark_convolutions.py: what it times is the same computation each way."""

import json
import sys
from pathlib import Path
from typing import Any

import benchmark_convolutions as benchmark
import pytest
import torch


@pytest.mark.parametrize("one_pass", benchmark.PASSES)
def test_each_way_computes_the_same(one_pass: str) -> None:
    layer = benchmark.Layer(2, 3, 9, 10)
    results: list[Any] = [calls[one_pass]() for calls in benchmark.ways(layer).values()]
    if one_pass != "forward":  # tuples with what was not asked for
        results = [next(tensor for tensor in result if tensor is not None) for result in results]
    first, *others = results
    assert len(others) == 2
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


def test_operations_are_those_of_the_direct_convolution() -> None:
    # 4 outputs a channel, each the sum over 3 channels of 9 products: a product and a sum each
    assert benchmark.Layer(1, 3, 2, 2).flops == 4 * 3 * 3 * 9 * 2


def test_the_rates_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "LAYERS", (benchmark.Layer(1, 4, 8, 8),))
    out = tmp_path / "rates.json"
    monkeypatch.setattr(
        sys, "argv", ["benchmark_convolutions.py", "--repeats", "1", "--warmup", "1", "--json", str(out)]
    )
    benchmark.main()
    figures = {figure["figure"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert len(figures) == 3 * len(benchmark.PASSES)
    assert all(value > 0 for value in figures.values())
    assert "4 → 4 channels, 1 x 8 x 8, winograd, channels last" in capsys.readouterr().out
