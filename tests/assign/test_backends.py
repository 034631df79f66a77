"""All implementations give the targets of the first one to the last bit, in bounded memory."""

import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detector.assign import assign_anchors
from detector.assign.assignment import _resolve
from detector.assign.eager import match_eager
from detector.assign.rules import MatchRules
from detector.assign.sparse import match_sparse
from tests.assign.cases import BACKENDS, CASES, RULES, Arguments, assert_targets_equal, plain_batch
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
    assert "[plain-triton]" not in run.stdout  # no failure named
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


class LiveBytes(TorchDispatchMode):
    """Sums up the memory of tensors made inside that are still alive, and keeps the highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage_id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (key := storage_id(tensor)) not in given and key not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[key] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def storage_id(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
