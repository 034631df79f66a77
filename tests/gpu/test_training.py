"""Training, evaluation and checkpoints of the tiny recipe on a GPU against the CPU."""

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from detector.criterion import Criterion, Losses
from detector.engine.checkpoint import load_checkpoint
from detector.engine.evaluate import evaluate_checkpoint
from detector.engine.inference import load_detector
from detector.engine.run import Run, build_run
from detector.engine.train import train, train_loop
from detector.structures import AnchorTargets, Batch, HeadOutputs
from tests.engine.tiny import read_rows, tiny_config, without_times

CUDA = torch.device("cuda")

pytestmark = pytest.mark.gpu


def build_tiny(folder: Path, *overrides: str) -> Run:
    config, origins = tiny_config(folder, "device=cuda", *overrides)
    return build_run(config, origins)


def train_tiny(folder: Path, *overrides: str, **options: Any) -> Path:
    """Train the tiny recipe, on the GPU unless told otherwise, and return its run folder."""
    config, origins = tiny_config(folder, "device=cuda", *overrides)
    train(config, origins, **options)
    return Path(config.output_dir)


def losses_of(run_folder: Path) -> dict[str, list[float]]:
    keys = ("loss_cls_fg", "loss_cls_bg", "loss_box", "grad_norm")
    return {key: [row[key] for row in read_rows(run_folder, "train")] for key in keys}


def device_batches(run: Run, count: int) -> list[Batch]:
    return [batch.to(CUDA) for batch in itertools.islice(iter(run.loader), count)]


class Poisoned(Criterion):
    """Losses that are infinite."""

    def __call__(
        self, outputs: HeadOutputs, targets: AnchorTargets, anchors: Tensor, normalizer: Tensor | float
    ) -> Losses:
        return super().__call__(outputs, targets, anchors, normalizer * 0.0)


@pytest.mark.usefixtures("_exact_convolutions")
@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 2e-3), ("bf16", 0.06), ("fp16", 0.02)])
def test_losses_of_the_first_steps_follow_the_cpus(tmp_path: Path, precision: str, rtol: float) -> None:
    cpu = train_tiny(tmp_path, "device=cpu", f"output_dir={tmp_path}/cpu")
    run = build_tiny(tmp_path, f"precision={precision}")
    if precision == "fp16":
        run.state.scaler = torch.amp.GradScaler("cuda", init_scale=256.0)  # one that overflows nothing
    with run.recorder:
        train_loop(run)
    for (key, actual), expected in zip(losses_of(run.output_dir).items(), losses_of(cpu).values(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=rtol * (3 if key == "grad_norm" else 1), err_msg=key)


def test_an_overflow_of_the_loss_scaler_is_masked_and_not_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build_tiny(tmp_path, "precision=fp16", "schedule.max_steps=2", "eval.every=2")
    run.state.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**60)
    before = {name: value.clone() for name, value in run.state.model.state_dict().items()}
    with run.recorder:
        train_loop(run)
    assert run.state.scaler.get_scale() == 2.0**58
    assert_close(run.state.model.state_dict(), before, rtol=0, atol=0)
    assert run.stepper.guard.num_skipped == 0
    assert "not finite" not in capsys.readouterr().out


def test_a_non_finite_step_moves_nothing_and_is_reported_one_step_late(tmp_path: Path) -> None:
    run = build_tiny(tmp_path, "model.backbone.norm=batch", "ema.decay=0.9", "loss.normalizer=ema")
    assert run.state.ema is not None
    batches = device_batches(run, 3)

    def everything() -> Any:
        assert run.state.ema is not None
        state = (run.state.model.state_dict(), run.state.ema.module.state_dict(), run.state.optimizer.state_dict())
        tensors = {f"{i}.{k}": v.clone() for i, part in enumerate(state[:2]) for k, v in part.items()}
        momentum = {f"m.{k}": v["momentum_buffer"].clone() for k, v in state[2]["state"].items()}
        return tensors | momentum | {"normalizer": run.state.normalizer.mean_foreground.clone()}

    with run.recorder:
        run.stepper([batches[0]])
        after_first, criterion = everything(), run.stepper.criterion
        run.stepper.criterion = Poisoned()
        assert not math.isfinite(run.stepper([batches[1]]).totals.losses.total.item())
        after_second = everything()
        run.stepper.criterion = criterion
        result = run.stepper([batches[2]])
    for name, value in after_first.items():
        assert_close(after_second[name], value, rtol=0, atol=0, msg=name)
    assert result.message is not None
    assert "the loss is not finite; the step was skipped" in result.message
    assert str(list(batches[1].image_ids)) in result.message
    assert not torch.equal(run.state.model.fpn.p7.weight, after_second["0.fpn.p7.weight"])


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        ("precision=bf16", "model.backbone.norm=frozen"),
        ("precision=bf16", "model.backbone.norm=batch", "ema.decay=0.9", "loss.normalizer=ema"),
        ("precision=fp16", "loss.box.name=giou", "optimizer.clip_grad_norm=1.0", "loss.normalizer=image"),
        ("precision=fp32", "optimizer.name=adamw", "data.images_per_forward=2", "loss.box.beta=0.1"),
    ],
    ids=lambda options: options[0],
)
def test_a_step_never_makes_the_host_wait(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = build_tiny(tmp_path, *options)
    with run.recorder:
        host_batches = list(itertools.islice(iter(run.loader), run.num_forwards))
        assert host_batches[0].images.is_pinned()
        for step in range(5):
            if step == 3:  # what is made once is there: anchors of the shape, the scaler, the state of AdamW
                torch.cuda.set_sync_debug_mode("error")
            result = run.stepper([batch.to(CUDA) for batch in host_batches], detail=step in (2, 4))
            run.state.step += 1
    torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(result.totals.to_host()["loss"])


@pytest.mark.usefixtures("_exact_convolutions")
def test_evaluation_gives_the_ap_of_the_cpu(tmp_path: Path) -> None:
    schedule = ("schedule.max_steps=20", "schedule.warmup_steps=5", "schedule.milestones=[]", "eval.every=20")
    options = (*schedule, "optimizer.lr=0.02", "optimizer.clip_grad_norm=5.0")
    checkpoint = train_tiny(tmp_path, "device=cpu", *options) / "checkpoints/last.pt"
    expected = evaluate_checkpoint(checkpoint, overrides=("device=cpu", "precision=fp32"))
    assert expected.scores.metrics["AP"] > 0.01
    for precision, atol, loss_rtol in (("fp32", 5e-3, 1e-4), ("bf16", 0.05, 0.03)):
        actual = evaluate_checkpoint(checkpoint, overrides=("device=cuda", f"precision={precision}"))
        for name, value in expected.scores.metrics.items():
            assert actual.scores.metrics[name] == pytest.approx(value, abs=atol), (precision, name)
        assert actual.losses == pytest.approx(expected.losses, rel=loss_rtol)


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_a_resumed_deterministic_run_is_bit_identical(tmp_path: Path, norm: str) -> None:
    options = ("deterministic=true", "precision=bf16", f"model.backbone.norm={norm}", "ema.decay=0.9")
    whole = train_tiny(tmp_path, *options)
    parts = tmp_path / "parts"
    shutil.copytree(whole, parts)
    for path in (parts / "checkpoints").iterdir():  # as if it had been killed after step 3: step 2 is the newest
        if "00000002" not in path.name:
            path.unlink()
    train_tiny(tmp_path, *options, f"output_dir={parts}", resume="auto")
    contents = [load_checkpoint(folder / "checkpoints/last.pt") for folder in (whole, parts)]
    for key in ("step", "model", "ema", "optimizer", "normalizer", "best"):
        assert_close(contents[1][key], contents[0][key], rtol=0, atol=0, msg=key)
    assert without_times(read_rows(parts)) == without_times(read_rows(whole))


def test_a_checkpoint_of_the_gpu_works_on_the_cpu(tmp_path: Path) -> None:
    folder = train_tiny(tmp_path, "precision=bf16", "ema.decay=0.9")
    detector = load_detector(folder / "checkpoints/last.pt", device="cpu", precision="fp32")
    assert {value.device.type for value in detector.model.state_dict().values()} == {"cpu"}
    image = np.zeros((72, 96, 3), np.uint8)
    assert detector.detect([image])[0].boxes.device.type == "cpu"
    train_tiny(
        tmp_path,
        "device=cpu",
        "precision=fp32",
        "ema.decay=0.9",
        f"output_dir={tmp_path}/cpu",
        resume=str(folder / "checkpoints/step-00000002.pt"),
    )
    assert [row["step"] for row in read_rows(tmp_path / "cpu", "train")] == [3, 4]
