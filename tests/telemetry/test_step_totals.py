import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detector.criterion import ClassDetail, Losses
from detector.telemetry.step_totals import StepTotals

SCALARS = ("num_gt", "num_unmatched_gt", "normalizer", "grad_norm")


def losses(num_levels: int = 3, **changes: Tensor) -> Losses:
    values = {
        "total": torch.tensor(7.0),
        "loss_cls": torch.tensor(4.0),
        "loss_box": torch.tensor(3.0),
        "loss_cls_fg": torch.tensor(3.0),
        "loss_cls_bg": torch.tensor(1.0),
        "level_loss_cls_fg": torch.arange(num_levels) + 0.25,
        "level_loss_cls_bg": torch.arange(num_levels) + 0.5,
        "level_counts": torch.tensor([[1, 2, 3], [100, 200, 300], [10, 20, 30]]),
    }
    return Losses(**(values | changes))


def detail() -> ClassDetail:
    return ClassDetail(
        class_loss_cls_fg=torch.tensor([2.0, 1.0], dtype=torch.float64),
        class_loss_cls_bg=torch.tensor([0.25, 0.75], dtype=torch.float64),
        class_num_foreground=torch.tensor([4, 2]),
        class_num_gt=torch.tensor([3, 5]),
        sum_p_foreground=torch.tensor(1.5, dtype=torch.float64),
        sum_p_background=torch.tensor(12.0, dtype=torch.float64),
        num_unmatched_gt=torch.tensor(1),
    )


def step_totals(**changes: Any) -> StepTotals:
    values: dict[str, Any] = {name: torch.tensor(float(i + 11)) for i, name in enumerate(SCALARS)}
    return StepTotals(**({"losses": losses(), "detail": detail()} | values | changes))


def test_every_number_reaches_the_host_under_its_own_name() -> None:
    assert step_totals().to_host() == {
        "loss": 7.0, "loss_cls": 4.0, "loss_box": 3.0, "loss_cls_fg": 3.0, "loss_cls_bg": 1.0, "fg_share": 0.75,
        "num_foreground": 6, "num_background": 600, "num_ignored": 60, "num_gt": 11, "num_unmatched_gt": 12,
        "normalizer": 13.0, "grad_norm": 14.0,
        "level_loss_cls_fg": (0.25, 1.25, 2.25), "level_loss_cls_bg": (0.5, 1.5, 2.5),
        "level_num_foreground": (1, 2, 3), "level_num_background": (100, 200, 300), "level_num_ignored": (10, 20, 30),
        "class_loss_cls_fg": (2.0, 1.0), "class_loss_cls_bg": (0.25, 0.75), "class_num_foreground": (4, 2),
        "class_num_gt": (3, 5), "p_foreground": 0.25, "p_background": 0.02,
    }  # fmt: skip


def test_without_detail_there_is_nothing_by_class() -> None:
    host, whole = step_totals(detail=None).to_host(), step_totals().to_host()
    assert {*host} == {*whole}
    assert [host[name] for name in host if name.startswith("class_")] == [()] * 4
    assert math.isnan(host["p_foreground"])
    assert host["level_num_foreground"] == whole["level_num_foreground"]


def test_without_anchors_of_a_kind_their_mean_probability_is_nan() -> None:
    host = step_totals(losses=losses(level_counts=torch.zeros(3, 3, dtype=torch.int64))).to_host()
    assert math.isnan(host["p_foreground"])
    assert math.isnan(host["p_background"])


def test_counts_beyond_float32_stay_exact() -> None:
    count = 2**24 + 1
    assert torch.tensor(count).float().item() != count
    host = step_totals(losses=losses(level_counts=torch.tensor([[1, 2, 3], [count, 0, 0], [0, 0, 0]]))).to_host()
    assert host["num_background"] == host["level_num_background"][0] == count


def test_tensors_of_any_dtype_and_with_gradient_are_accepted() -> None:
    loss = torch.ones(1, dtype=torch.bfloat16, requires_grad=True).sum()
    totals = step_totals(losses=losses(total=loss), num_gt=torch.tensor(2), normalizer=torch.tensor(3).half())
    stacked = totals.stack()
    assert stacked.dtype == torch.float64
    assert not stacked.requires_grad
    assert totals.to_host()["loss"] == 1.0


def test_the_device_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, stacked = step_totals().to_host(), step_totals().stack()
    stacks = []
    # On the meta device every read raises: only the one tensor that is copied can have been looked at.
    monkeypatch.setattr(StepTotals, "stack", lambda self: stacks.append(self) or stacked)
    unreadable = step_totals(
        losses=Losses(*(getattr(losses(), field.name).to("meta") for field in fields(Losses))),
        detail=ClassDetail(*(getattr(detail(), field.name).to("meta") for field in fields(ClassDetail))),
        **{name: torch.tensor(0.0, device="meta") for name in SCALARS},
    )
    with pytest.raises(RuntimeError, match="meta"):
        unreadable.num_gt.item()
    assert unreadable.to_host() == expected
    assert len(stacks) == 1


def test_more_levels_and_classes_are_told_apart() -> None:
    for num_levels in (1, 5):
        many = losses(
            level_loss_cls_fg=torch.arange(num_levels) + 1.0,
            level_loss_cls_bg=torch.arange(num_levels) + 20.0,
            level_counts=torch.arange(3 * num_levels).reshape(3, num_levels),
        )
        host = replace(step_totals(), losses=many).to_host()
        assert host["level_loss_cls_bg"] == tuple(20.0 + level for level in range(num_levels))
        assert host["level_num_ignored"] == tuple(2 * num_levels + level for level in range(num_levels))
        assert host["class_num_gt"] == (3, 5)


@pytest.mark.parametrize(
    ("fg", "bg", "share"),
    [(1.0, 3.0, 0.25), (0.0, 0.0, math.nan), (math.inf, math.inf, math.nan), (math.nan, 1.0, math.nan)],
)
def test_foreground_share_is_nan_without_a_class_loss(fg: float, bg: float, share: float) -> None:
    totals = replace(step_totals(), losses=losses(loss_cls_fg=torch.tensor(fg), loss_cls_bg=torch.tensor(bg)))
    assert totals.to_host()["fg_share"] == pytest.approx(share, nan_ok=True)
