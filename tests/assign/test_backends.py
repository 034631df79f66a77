"""All implementations give the targets of the first one to the last bit, in bounded memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarking.memory import peak_memory
from torch import Tensor

from detector.assign import assign_anchors, eager, sparse
from detector.assign.assignment import _resolve
from detector.assign.eager import match_eager
from detector.assign.rules import MatchRules
from detector.assign.sparse import match_sparse
from detector.assign.targets import targets_of_matches
from tests.assign.cases import BACKENDS, CASES, RULES, assert_targets_equal, plain_batch
from tests.assign.reference import reference_targets
from tests.helpers import random_boxes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_targets_are_those_of_the_first_implementation(case: str, backend: Any) -> None:
    for seed, rules in enumerate(RULES):
        arguments = CASES[case](torch.Generator().manual_seed(seed))
        # Triton's interpreter is slow: there, regions are left out in every second case only.
        for given in (arguments, arguments[:-1]) if backend != "triton" else (arguments[: 5 - seed % 2],):
            actual = assign_anchors(*given, **rules, backend=backend)
            assert_targets_equal(actual, reference_targets(*given, **rules), (seed, rules, len(given)))


@pytest.mark.skipif(BACKENDS == ("triton",), reason="this is the inner run")
@pytest.mark.slow
def test_triton_kernels_pass_the_tests_of_the_others_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    tests = ["tests/assign/test_backends.py", "tests/assign/test_assignment.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


@pytest.mark.skipif(BACKENDS == ("triton",), reason="the interpreter runs on a CPU")
def test_triton_is_refused_where_it_cannot_run() -> None:
    arguments = plain_batch(torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"triton backend of the assignment cannot be used: .*(CUDA|not installed)"):
        assign_anchors(*arguments, backend="triton")


def test_auto_reads_values_on_a_cpu_only() -> None:
    assert _resolve("auto", torch.device("cpu")) == "sparse"
    assert _resolve("auto", torch.device("meta")) == "eager"
    assert _resolve("eager", torch.device("cpu")) == "eager"


def crowd(num_images: int, num_anchors: int, num_gt: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors, boxes, objects and ignore regions, as many as that, of all sizes and anywhere in the image."""
    generator = torch.Generator().manual_seed(0)
    anchors = random_boxes(num_anchors, generator, (256, 256))
    boxes = random_boxes(num_images * num_gt, generator, (256, 256)).view(num_images, num_gt, 4)
    regions = torch.rand(num_images, num_gt, generator=generator) < 0.1
    return anchors, boxes, ~regions, regions


def most_bytes(num_images: int, num_anchors: int, num_gt: int) -> tuple[int, int, int]:
    """Bounds of the memory: eager and sparse matching, and what makes targets of matches."""
    anchors = num_images * num_anchors
    touching = num_images * num_gt * -(-num_anchors // sparse._BLOCK)
    return 50 * anchors + 10 * max(anchors, eager._MAX_PAIRS), 2**22 + 20 * anchors + 40 * touching, 43 * anchors


@pytest.mark.skipif(BACKENDS == ("triton",), reason="of the others only")
@pytest.mark.parametrize(("num_anchors", "num_gt"), [(5000, 100), (5000, 200), (10_000, 100)])
def test_memory_keeps_its_bounds(num_anchors: int, num_gt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, rules, cpu = crowd(2, num_anchors, num_gt), MatchRules(0.5, 0.4, True, 0.5), torch.device("cpu")
    monkeypatch.setattr(eager, "_MAX_PAIRS", 5 * num_anchors)  # two ground truths of both images at a time
    of_eager, of_sparse, of_targets = most_bytes(2, num_anchors, num_gt)
    assert peak_memory(lambda: match_eager(*arguments, rules), cpu) < of_eager
    assert peak_memory(lambda: match_sparse(*arguments, rules), cpu) < of_sparse
    matches, (_, boxes, mask, _) = match_eager(*arguments, rules), arguments
    assert peak_memory(lambda: targets_of_matches(matches, boxes, mask.long(), mask), cpu) < of_targets


def test_500_boxes_on_400k_anchors_and_16_images_take_less_than_a_gigabyte() -> None:
    assert max(most_bytes(16, 400_000, 500)) + 16 * 400_000 * 8 < 1e9  # beside the matches
