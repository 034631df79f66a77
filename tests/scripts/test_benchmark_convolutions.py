"""scripts/benchmark_convolutions.py: what it times is the same computation each way."""

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
