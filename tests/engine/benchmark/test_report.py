"""detector/engine/benchmark/report.py: the words, from a result that is made up."""

import json
from dataclasses import replace

import pytest

from detector.data.largest_batch import LargestBatch
from detector.engine.benchmark import BenchmarkResult, format_result, to_json
from detector.engine.benchmark.ceilings import Ceilings
from detector.engine.benchmark.fit import Fit
from detector.engine.benchmark.report import advice
from detector.engine.benchmark.stretches import Stretch

RESULT = BenchmarkResult(
    hardware="Some CPU, 2 threads",
    device="cpu",
    num_threads=2,
    precision="fp32",
    batch_size=16,
    images_per_forward=8,
    num_workers=2,
    startup_seconds=3.25,
    first_step_seconds=0.75,
    whole=Stretch(10, 20.0, 0.5),
    ready=Stretch(10, 16.0),
    loader=Stretch(10, 4.0, 4.0),
    flops=8e10,
    ceilings=Ceilings(1e10, {"fp32": 2e11}, {"fp32": 1e11}),
    peak_memory=3 * 2**29,
    reserved_memory=None,
    largest=LargestBatch((800, 1344), 7, 3),
    fit=Fit(12, False, 512 * 2**20, 8 * 2**30),
)


def test_every_figure_stands_in_the_text() -> None:
    text = format_result(RESULT)
    for words in (
        "Some CPU, 2 threads; fp32",
        "16 images a step, in 2 forwards of 8",
        "8 images/s (2.0 s a step, 10 steps), 2.5% of it waiting for data",
        "10 images/s (1.6 s a step, 10 steps), the batches on the device already",
        "40 images/s (400 ms a step, 10 steps), 2 workers",
        "80 GFLOP a step, 50 GFLOP/s without data: 50% of what a 3 x 3 convolution reaches here (100), 25% of a matrix",
        "3.2 s, then 750 ms for the first step",
        "1.50 GiB at most, the training process without loader workers",
        "12 at once of 800 x 1344 pixels, the largest shape of this data (worked out from a few; 512 MiB each",
        "for a batch of 16: data.images_per_forward=8",
        "the network sets the pace",
    ):
        assert words in text


def test_the_whole_batch_fits() -> None:
    assert "the whole batch of 16 fits" in format_result(replace(RESULT, fit=Fit(16, True, 1, 2)))


def test_what_is_not_known_is_said() -> None:
    text = format_result(replace(RESULT, fit=None, peak_memory=None, ceilings=None, precision="bf16"))
    assert "this system does not tell how much memory is left" in text
    assert "this system does not tell a process's peak" in text
    assert "this hardware emulates bf16: precision=fp32 is faster" in text
    assert "not even one image" in format_result(replace(RESULT, fit=Fit(0, True, 2**30, 2**29)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the network sets the pace"),
        ({"whole": Stretch(10, 20.0, 5.0), "num_workers": 0}, "data.num_workers=0 loads between the steps"),
        ({"whole": Stretch(10, 20.0, 5.0), "loader": Stretch(10, 40.0)}, "the loader alone is slower than the network"),
        ({"whole": Stretch(10, 20.0, 5.0)}, "the two share the cores"),
    ],
)
def test_the_advice_names_what_is_slow(changes: dict[str, object], words: str) -> None:
    assert words in advice(replace(RESULT, **changes))


def test_json_has_the_rates_too() -> None:
    content = json.loads(json.dumps(to_json(RESULT)))
    assert content["whole"] == {
        "num_steps": 10,
        "seconds": 20.0,
        "waited": 0.5,
        "cpu_seconds": None,
        "images_per_second": 8.0,
    }
    assert (content["data_wait_share"], content["flops_per_second"]) == (0.025, 5e10)
    assert content["fit"]["largest"] == 12


@pytest.mark.parametrize(("cpu_seconds", "words"), [(8.0, "training got 25% of its threads' time"), (30.0, None)])
def test_a_busy_machine_is_seen(cpu_seconds: float, words: str | None) -> None:
    text = format_result(replace(RESULT, ready=Stretch(10, 16.0, cpu_seconds=cpu_seconds)))
    assert words in text if words else "busy" not in text
