import math
from dataclasses import fields

import pytest
import torch

from detector.telemetry.split_stats import StepTotals, foreground_share


def step_totals(**changes: float) -> StepTotals:
    values = {field.name: float(i) for i, field in enumerate(fields(StepTotals))} | changes
    return StepTotals(**{name: torch.tensor(value) for name, value in values.items()})


def test_every_field_reaches_the_host_under_its_own_name() -> None:
    host = step_totals(loss_cls_fg=3.0, loss_cls_bg=1.0).to_host()
    expected = {field.name: float(i) for i, field in enumerate(fields(StepTotals))}
    assert host == expected | {"loss_cls_fg": 3.0, "loss_cls_bg": 1.0, "fg_share": 0.75}


def test_counts_beyond_float32_stay_exact() -> None:
    count = 2**24 + 1
    assert torch.tensor(count).float().item() != count
    totals = step_totals()
    totals = StepTotals(
        **{f.name: getattr(totals, f.name) for f in fields(StepTotals)} | {"num_background": torch.tensor(count)}
    )
    assert totals.to_host()["num_background"] == count


def test_tensors_of_any_dtype_and_with_gradient_are_accepted() -> None:
    loss = torch.ones(1, dtype=torch.bfloat16, requires_grad=True).sum()
    values = {f.name: torch.tensor(2, dtype=torch.int64) for f in fields(StepTotals)} | {"loss": loss}
    stacked = StepTotals(**values).stack()
    assert stacked.dtype == torch.float64
    assert not stacked.requires_grad
    torch.testing.assert_close(stacked, torch.tensor([1.0] + [2.0] * 8, dtype=torch.float64))


def test_the_device_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[torch.Size] = []
    for name in ("tolist", "item", "__float__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *args: object, original=original) -> object:  # type: ignore[no-untyped-def]
            reads.append(self.shape)
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    step_totals().to_host()
    assert reads == [torch.Size([9])]


def test_foreground_share_is_nan_without_a_class_loss() -> None:
    assert foreground_share(1.0, 3.0) == 0.25
    assert math.isnan(foreground_share(0.0, 0.0))
    assert math.isnan(foreground_share(math.inf, math.inf))
    assert math.isnan(foreground_share(math.nan, 1.0))
