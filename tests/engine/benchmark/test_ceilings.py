"""detector/engine/benchmark/ceilings.py: rates from known times."""

import itertools
import time

import pytest
import torch

from detector.engine.benchmark import ceilings

CPU = torch.device("cpu")


def test_ceilings_count_bytes_and_operations_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 4000})
    monkeypatch.setattr(ceilings, "MATMUL_SIZE", {"cpu": 10})
    monkeypatch.setattr(ceilings, "CONVOLUTION_SHAPE", {"cpu": (2, 4, 6, 5)})
    ticks = itertools.count(0.0, 0.5)
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))  # every call takes half a second
    found = ceilings.measure_ceilings(CPU, ["fp32"])
    assert found.copy == 2 * 4000 / 0.5
    assert found.matmul == {"fp32": 2 * 10**3 / 0.5}
    assert found.convolution == {"fp32": 2 * (2 * 6 * 5) * (4 * 4 * 9) / 0.5}
    assert "fp32 convolution 0 GFLOP/s" in str(found)


def test_the_fastest_call_counts_and_those_to_warm_up_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([0.1, 0.1, 0.1, 4.0, 2.0, 3.0])
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += next(durations)

    assert ceilings._fastest(call, CPU, 3) == 2.0
