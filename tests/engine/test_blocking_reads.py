"""A step that is not a log step reads nothing from the device, but for the verdict on the step before."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarking.blocking_reads import as_on_a_device, blocking_reads
from torch import Tensor

from detector.engine.run import Run, build_run
from detector.engine.schedule import attach_schedule
from tests.engine.tiny import tiny_config

WHOLE_STEP = (
    "assign.backend=eager",  # that of a device; on a CPU itself values may be read
    "data.images_per_forward=2",  # gradients of two forward passes
    "ema.decay=0.9",
    "optimizer.clip_grad_norm=1.0",
    "schedule.milestones=[3]",
)

GUARD = "tolist (guard.py"


def open_run(folder: Path, *overrides: str) -> Run:
    return build_run(*tiny_config(folder, *WHOLE_STEP, *overrides))


@pytest.fixture(params=["sgd", "adamw"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    run = open_run(tmp_path, f"optimizer.name={request.param}", "model.backbone.norm=batch")
    yield run
    run.recorder.close()


def test_a_step_reads_only_whether_the_step_before_was_finite(run: Run) -> None:
    assert run.num_forwards == 2
    state = run.state
    scheduler = attach_schedule(state.optimizer, run.schedule, run.config.optimizer.resolved_lr, 0)
    batches = [batch.to(run.device) for batch in islice(run.loader, run.num_forwards)]
    state.model.train()

    def step() -> None:
        run.stepper(batches)
        scheduler.step()
        state.step += 1

    step()  # the first one makes the optimiser's state and puts anchors on the device
    for _ in range(2):
        with as_on_a_device():
            (read,) = blocking_reads(step)
        assert read.startswith(GUARD)
    assert len(blocking_reads(step)) > 1  # what a CPU may do and only a CPU does is noticed, in backward as well


class Reading(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        grad.numpy()
        grad.sum().item()
        return grad


def test_reads_of_a_backward_pass_are_noticed() -> None:
    output = Reading.apply(torch.ones(2, requires_grad=True)).sum()
    assert [read.split()[0] for read in blocking_reads(output.backward)] == ["numpy", "_local_scalar_dense.default"]


def test_every_kind_of_read_is_noticed() -> None:
    x, mask = torch.arange(3.0), torch.tensor([True, False, True])
    for read in (
        x.sum().item, lambda: x.tolist(), lambda: x.numpy(), lambda: np.asarray(x), lambda: x.cpu(), mask.nonzero,
        lambda: x[mask], lambda: x.masked_select(mask),
        lambda: bool(x[0] > 0), lambda: float(x[0]), lambda: x.to("cpu"), lambda: x.to(device="cpu"), x.unique,
        lambda: torch.equal(x, x), lambda: x.clone().index_put_((mask,), x[0]), lambda: torch.where(mask),
    ):  # fmt: skip
        (found,) = blocking_reads(read)
        assert found.split("(")[1].startswith("test_blocking_reads.py:")
    for no_read in (lambda: x.masked_fill(mask, 0), lambda: x[mask.long()], lambda: torch.where(mask, x, 0), x.double):
        assert blocking_reads(no_read) == []
