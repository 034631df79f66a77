"""A step that is not finite is written up: which images, which boxes, and where the network stops being finite."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor, nn

from detector.engine.run import Run, build_run
from detector.engine.train import train_loop
from detector.errors import DivergedError
from tests.engine.tiny import tiny_config

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[MakeRun]:
    """Build runs that neither log nor evaluate before their end."""
    runs: list[Run] = []

    def make(*overrides: str) -> Run:
        rarely = ("log_every=50", "eval.every=50", "checkpoint.every=50", "data.short_side=[64]")
        runs.append(build_run(*tiny_config(tmp_path, *rarely, *overrides)))
        return runs[-1]

    yield make
    for run in runs:
        run.recorder.close()


def first_step(run: Run) -> str:
    """Make one step and return what is said of it."""
    run.stepper([next(iter(run.loader)).to(run.device)])
    return str(run.stepper.guard.read())


def spoil(module: nn.Module, when: Any, *, gradient: bool = False) -> None:
    """Make the output of a module (or the gradient that comes back into it) infinite where ``when(output)`` holds."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        if not when(output):
            return None
        if gradient:
            return _InfiniteGradient.apply(output)
        return output * torch.inf

    module.register_forward_hook(hook)


class _InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return gradient * torch.inf


def state_of(run: Run) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in run.state.model.state_dict().items()}


def test_the_module_the_images_and_the_boxes_are_named(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("schedule.max_steps=4", "model.backbone.norm=batch")
    # The same input made again is the same step: it must fail again.
    seen: list[float] = []
    run.state.model.register_forward_pre_hook(lambda _module, inputs: seen.append(float(inputs[0].double().sum())))
    third: list[float] = []

    def when(_output: Tensor) -> bool:
        if len(seen) == 3 and not third:
            third.append(seen[2])
        return bool(third) and seen[-1] == third[0]

    spoil(run.state.model.fpn.p6, when)
    with run.recorder:
        train_loop(run)
    report = json.loads((run.output_dir / "nonfinite/step-00000003/report.json").read_text())
    assert [path.name for path in (run.output_dir / "nonfinite").iterdir()] == ["step-00000003"]
    assert report["step"] == 3
    assert report["not_finite"] == "loss"
    assert report["losses"]["total"] == "nan"
    assert report["lr"] == pytest.approx(0.005)
    assert report["precision"] == "fp32"
    (process,) = report["processes"]
    assert process["first_module"] == "fpn.p6"
    assert not process["is_finite_when_made_again"]
    assert [level["cls_logits"]["num_not_finite"] > 0 for level in process["levels"]] == [False] * 3 + [True] * 2
    assert process["levels"][0]["cls_logits"]["min"] < process["levels"][0]["cls_logits"]["max"]
    assert len(process["images"]) == 4
    table = run.train_dataset.table
    for image in process["images"]:
        row = table.image_ids.tolist().index(image["image_id"])
        assert image["file"] == str(run.train_dataset.image_path(row))
        assert len(image["boxes"]) == len(image["classes"]) == int(table.box_offsets[row + 1] - table.box_offsets[row])
        assert image["losses"]["total"] == "nan"
        picture = cv2.imread(str(run.output_dir / f"nonfinite/step-00000003/image-{image['image_id']}.jpg"))
        assert picture.shape[:2] == tuple(image["size"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "The first module with an output that is not finite is fpn.p6; see " in printed


def test_looking_again_changes_nothing(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3", "model.backbone.norm=batch")
    spoil(run.state.model.fpn.p7, lambda output: True)
    batches = [next(iter(run.loader)).to(run.device)]
    run.stepper(batches)
    before, gradients = state_of(run), [parameter.grad for parameter in run.state.model.parameters()]
    message = run.stepper.guard.read()
    assert message is not None
    assert "fpn.p7" in message
    torch.testing.assert_close(state_of(run), before, rtol=0, atol=0)
    assert all(
        one is other for one, other in zip(gradients, (p.grad for p in run.state.model.parameters()), strict=True)
    )
    assert not any(module._forward_hooks for name, module in run.state.model.named_modules() if name != "fpn.p7")


def test_one_image_of_a_batch_is_found(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3")

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        factor = torch.ones(len(output), 1, 1, 1)
        factor[2] = torch.nan
        return output * factor

    run.state.model.backbone.conv1.register_forward_hook(hook)
    first_step(run)
    report = json.loads((run.output_dir / "nonfinite/step-00000001/report.json").read_text())
    losses = [image["losses"]["total"] for image in report["processes"][0]["images"]]
    assert [loss == "nan" for loss in losses] == [False, False, True, False]
    assert sum(losses[idx] for idx in (0, 1, 3)) > 0


def test_a_gradient_that_is_not_finite_is_named_by_its_parameters(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3")
    spoil(run.state.model.backbone.layer3, lambda output: True, gradient=True)
    message = first_step(run)
    assert "step 1: the gradient is not finite" in message
    assert "All outputs of the network are finite, but not the gradient; see " in message
    (process,) = json.loads((run.output_dir / "nonfinite/step-00000001/report.json").read_text())["processes"]
    assert process["first_module"] is None
    assert process["gradients_not_finite"][0].startswith("backbone.layer3.")
    assert len(process["gradients_not_finite"]) == 10 < process["num_gradients_not_finite"]


def test_weights_that_are_not_finite_are_named(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3")
    with torch.no_grad():
        run.state.model.fpn.p7.bias[3] = torch.nan
    assert "The weights are not finite, first of all fpn.p7.bias; see " in first_step(run)


def test_a_run_that_diverges_ends_with_the_path_of_its_first_report(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.engine.guard.MAX_IN_A_ROW", 4)
    monkeypatch.setattr("detector.engine.nonfinite.MAX_REPORTS", 2)
    run = make_run("schedule.max_steps=40")
    spoil(run.state.model.fpn.p7, lambda output: True)
    with pytest.raises(DivergedError, match=r"The first of them: .*fpn\.p7; see .*step-00000001/report"):
        train_loop(run)
    assert sorted(path.name for path in (run.output_dir / "nonfinite").iterdir()) == ["step-00000001", "step-00000002"]


def test_trouble_with_a_write_up_is_told_and_ends_nothing(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3")
    (run.output_dir / "nonfinite").write_text("in the way")
    spoil(run.state.model.fpn.p7, lambda output: True)
    assert "but that could not be written: Not a directory" in first_step(run)


def test_a_fault_that_does_not_come_again_is_told_as_such(make_run: MakeRun) -> None:
    run = make_run("schedule.max_steps=3")
    calls: list[int] = []
    spoil(run.state.model.fpn.p7, lambda output: len(calls) == 0 and not calls.append(1))
    assert "Made again, the same step is finite; see " in first_step(run)
