"""The train loop on a tiny dataset, from the configuration to the files of the run folder."""

import dataclasses
import json
import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.config_io import dump_config, load_config
from detector.criterion import Criterion
from detector.engine.checkpoint import load_checkpoint
from detector.engine.clock import StepClock
from detector.engine.inference import load_detector
from detector.engine.run import Run, build_run
from detector.engine.stop import StopRequest
from detector.engine.train import train, train_loop
from detector.errors import DivergedError, StoppedEarly, UserError
from detector.telemetry import StepTotals
from tests.engine.tiny import read_rows, tiny_config, without_times

ROW_KEYS = {
    "kind", "step", "epoch", "loss", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg", "fg_share",
    "num_foreground", "num_background", "num_ignored", "lr", "grad_norm", "data_seconds", "step_seconds",
    "images_per_second", "p_foreground", "p_background", "num_gt", "num_unmatched_gt", "normalizer",
    "level_loss_cls_fg", "level_loss_cls_bg", "level_num_foreground", "level_num_background", "level_num_ignored",
    "class_loss_cls_fg", "class_loss_cls_bg", "class_num_foreground", "class_num_gt",
}  # fmt: skip


def run_tiny(folder: Path, *overrides: str, **options: Any) -> Path:
    """Train the tiny recipe and return its run folder."""
    config, origins = tiny_config(folder, *overrides)
    train(config, origins, **options)
    return Path(config.output_dir)


def final_weights(run_folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_checkpoint(run_folder / "checkpoints/last.pt")["model"]
    return weights


def test_a_run_leaves_what_the_contract_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path)
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {"config.yaml", "environment.json", "metrics.jsonl", "checkpoints"}
    assert {path.name for path in (folder / "checkpoints").glob("*.pt")} == {
        "step-00000002.pt", "step-00000004.pt", "last.pt", "best.pt"
    }  # fmt: skip
    rows = read_rows(folder, "train")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(set(row) == ROW_KEYS for row in rows)
    for row in rows:
        assert row["loss_cls_fg"] + row["loss_cls_bg"] == pytest.approx(row["loss_cls"], rel=1e-5)
        assert row["loss_cls"] + row["loss_box"] == pytest.approx(row["loss"], rel=1e-5)
        assert row["fg_share"] == pytest.approx(row["loss_cls_fg"] / row["loss_cls"], rel=1e-5)
        for name in ("loss_cls_fg", "loss_cls_bg"):
            for part, length in (("level", 5), ("class", 2)):
                assert len(row[f"{part}_{name}"]) == length
                assert sum(row[f"{part}_{name}"]) == pytest.approx(row[name], rel=1e-5)
        for name in ("num_foreground", "num_background", "num_ignored"):
            assert sum(row[f"level_{name}"]) == row[name]
        assert sum(row["class_num_foreground"]) == row["num_foreground"] == row["normalizer"]
        assert sum(row["class_num_gt"]) == row["num_gt"]
        assert row["p_foreground"] == pytest.approx(0.01, rel=0.1)  # the prior
    assert [row["lr"] for row in rows] == pytest.approx([0.005 * 0.001, 0.005, 0.005, 0.0005])
    (evaluation,) = read_rows(folder, "eval")
    assert evaluation["step"] == 4
    assert set(evaluation) >= {"AP", "AP50", "ARl", "loss", "loss_cls", "loss_cls_fg", "loss_cls_bg", "loss_box"}
    assert json.loads((folder / "environment.json").read_text())["seed"] == 0
    printed = capsys.readouterr().out
    assert "0.00125 per image" in printed
    assert "theory gives" in printed
    assert "1 images without boxes" in printed


def test_the_resolved_configuration_reproduces_the_run(tmp_path: Path):
    first = run_tiny(tmp_path)
    again = load_config(first / "config.yaml", [f"output_dir={tmp_path}/again"])
    assert again.precision == "fp32"
    train(again, {})
    assert without_times(read_rows(tmp_path / "again")) == without_times(read_rows(first))


def test_the_clock_is_read_when_the_step_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order = []
    to_host, means = StepTotals.to_host, StepClock.means
    monkeypatch.setattr(StepTotals, "to_host", lambda self: (order.append("device"), to_host(self))[1])
    monkeypatch.setattr(StepClock, "means", lambda self: (order.append("clock"), means(self))[1])
    run_tiny(tmp_path, "schedule.max_steps=1", "eval.every=9")
    assert order == ["device", "clock"]


def test_console_file_and_tensorboard_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path, "eval.score_thresh=0.001")
    printed = capsys.readouterr().out
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    for row in read_rows(folder):
        for key, value in row.items():
            if key in ("kind", "step", "loss_profile") or isinstance(value, list):  # lists: see test_recorder.py
                continue
            (event,) = [e for e in events.Scalars(f"{row['kind']}/{key}") if e.step == row["step"]]
            assert event.value == pytest.approx(value, rel=1e-6), key
        if row["kind"] == "train":
            line = next(line for line in printed.splitlines() if line.startswith(f"step {row['step']}/4"))
            words = " ".join(line.split())
            assert f"loss {row['loss']:.4f} cls {row['loss_cls']:.4f} box {row['loss_box']:.4f}" in words
            assert f"fg {100 * row['fg_share']:.1f}%" in words
    assert sum(tag.startswith("eval/pictures/") for tag in events.Tags()["images"]) == 2
    assert {"train_levels/num_foreground/P7", "train_classes/num_gt/green"} <= {*events.Tags()["scalars"]}
    assert "eval/scores" in events.Tags()["histograms"]


def test_only_steps_that_are_logged_are_looked_at_by_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps = []
    config, origins = tiny_config(tmp_path, "log_every=3", "schedule.max_steps=5", "eval.every=9", "checkpoint.every=9")
    run = build_run(config, origins)
    detail = Criterion.detail
    monkeypatch.setattr(
        Criterion, "detail", lambda *args, **options: (steps.append(run.state.step + 1), detail(*args, **options))[1]
    )
    with run.recorder:
        result = run.stepper([next(iter(run.loader))])
        assert result.totals.detail is None
        assert steps == []
        train_loop(run)
    evaluated = steps.count(6)  # the evaluation looks at every batch, after step 5
    assert steps[: len(steps) - evaluated] == [3, 5]


@pytest.mark.parametrize("normalizer", ["batch", "image", "ema"])
def test_the_normaliser_of_a_row_is_what_the_losses_were_divided_by(tmp_path: Path, normalizer: str):
    folder = run_tiny(tmp_path, f"loss.normalizer={normalizer}", "data.images_per_forward=2", "schedule.max_steps=2")
    rows, mean = read_rows(folder, "train"), 50.0
    for row in rows:
        mean = 0.9 * mean + 0.1 * row["num_foreground"] / 4
        match normalizer:
            case "batch":
                assert row["normalizer"] == row["num_foreground"]
            case "ema":
                assert row["normalizer"] == pytest.approx(4 * mean, rel=1e-5)
            case "image":  # images x the mean of max(1, foreground anchors): an image without objects counts as one
                assert row["num_foreground"] <= row["normalizer"] <= row["num_foreground"] + 4
                assert row["normalizer"] == round(row["normalizer"])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_two_runs_are_bit_identical_for_any_number_of_workers(tmp_path: Path, num_workers: int):
    plain = run_tiny(tmp_path)
    other = run_tiny(tmp_path, f"data.num_workers={num_workers}", f"output_dir={tmp_path}/other")
    torch.testing.assert_close(final_weights(other), final_weights(plain), rtol=0, atol=0)
    assert without_times(read_rows(other)) == without_times(read_rows(plain))


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path):
    options = ("ema.decay=0.9", "loss.normalizer=ema", "model.backbone.norm=batch")
    whole = run_tiny(tmp_path, *options)
    parts = run_tiny(tmp_path, *options, f"output_dir={tmp_path}/parts")
    for path in (parts / "checkpoints").iterdir():  # as if it had been killed after step 3: step 2 is the newest
        if "00000002" not in path.name:
            path.unlink()
    run_tiny(tmp_path, *options, f"output_dir={tmp_path}/parts", resume="auto")
    contents = [load_checkpoint(folder / "checkpoints/last.pt") for folder in (whole, parts)]
    for key in ("step", "model", "ema", "optimizer", "normalizer", "best"):
        torch.testing.assert_close(contents[1][key], contents[0][key], rtol=0, atol=0, msg=key)
    assert without_times(read_rows(parts)) == without_times(read_rows(whole))


def test_accumulated_micro_batches_are_the_larger_batch(tmp_path: Path):
    whole = run_tiny(tmp_path, "schedule.max_steps=3", "eval.every=3")
    parts = run_tiny(
        tmp_path, "schedule.max_steps=3", "eval.every=3", "data.images_per_forward=1", f"output_dir={tmp_path}/parts"
    )
    for one, other in zip(read_rows(parts, "train"), read_rows(whole, "train"), strict=True):
        for key in ("loss", "loss_cls_fg", "loss_cls_bg", "loss_box", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=2e-4), key
        for key in one:
            if "num_" in key:
                assert one[key] == other[key], key
            elif key.startswith(("level_", "class_", "p_", "normalizer")):
                assert one[key] == pytest.approx(other[key], rel=2e-4), key


@pytest.mark.parametrize("normalizer", ["batch", "image", "ema"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_the_first_loss_is_what_theory_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], normalizer: str, box_loss: str
):
    run_tiny(tmp_path, f"loss.normalizer={normalizer}", f"loss.box.name={box_loss}", "schedule.max_steps=1")
    printed = capsys.readouterr().out
    assert "as it should be" in printed
    assert "warning" not in printed


def test_a_missing_prior_is_named_as_the_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, origins = tiny_config(tmp_path, "schedule.max_steps=1")
    run = build_run(config, origins)
    torch.nn.init.zeros_(run.state.model.cls_subnet.last.bias)
    with run.recorder:
        train_loop(run)
    printed = capsys.readouterr().out
    assert printed.count("warning: the prior is not on the class head") == 1
    assert printed.index("the prior is not on") < printed.index("step 1/1")
    (row,) = read_rows(run.output_dir, "warning")
    assert (row["step"], row["name"]) == (0, "prior")


def poison(run: Run, steps: set[int]) -> None:
    """Make the losses of chosen steps infinite."""
    criterion = run.stepper.criterion

    class Poisoned(Criterion):
        def __call__(self, outputs: Any, targets: Any, anchors: Any, normalizer: Any) -> Any:
            return criterion(outputs, targets, anchors, normalizer * (run.state.step + 1 not in steps))

    run.stepper.criterion = Poisoned(class_loss=criterion.class_loss)


def test_a_non_finite_step_is_skipped_reported_and_logged_as_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config, origins = tiny_config(tmp_path, "model.backbone.norm=batch", "ema.decay=0.9")
    run = build_run(config, origins)
    poison(run, {3})
    states = []
    inner = run.stepper.__call__

    def watched(batches: Any, **options: Any) -> Any:
        states.append({name: value.clone() for name, value in run.state.model.state_dict().items()})
        return inner(batches, **options)

    object.__setattr__(run, "stepper", _Wrapper(run.stepper, watched))
    with run.recorder:
        train_loop(run)
    torch.testing.assert_close(states[3], states[2], rtol=0, atol=0)  # before step 4 = before step 3
    assert not torch.equal(states[2]["fpn.p7.weight"], states[1]["fpn.p7.weight"])
    printed = capsys.readouterr().out
    assert "step 3: the loss is not finite; the step was skipped and nothing moved. Image ids: [1" in printed
    assert "1 steps were not finite and therefore skipped" in printed
    rows = read_rows(run.output_dir, "train")
    assert rows[2]["loss"] is None
    assert all(math.isfinite(rows[idx]["loss"]) for idx in (0, 1, 3))


class _Wrapper:
    def __init__(self, inner: Any, call: Any) -> None:
        self.inner, self.call = inner, call

    def __call__(self, batches: Any, **options: Any) -> Any:
        return self.call(batches, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_run_that_never_recovers_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detector.engine.guard.MAX_IN_A_ROW", 4)
    config, origins = tiny_config(tmp_path, "schedule.max_steps=40", "eval.every=100", "checkpoint.every=100")
    run = build_run(config, origins)
    poison(run, set(range(3, 41)))
    with run.recorder, pytest.raises(DivergedError, match="training has diverged"):
        train_loop(run)


def test_a_signal_finishes_the_step_saves_and_says_how_to_continue(tmp_path: Path):
    config, origins = tiny_config(tmp_path, "schedule.max_steps=50", "eval.every=50", "checkpoint.every=50")
    run = build_run(config, origins)
    inner = run.stepper.__call__

    def signalled(batches: Any, **options: Any) -> Any:
        if run.state.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(batches, **options)

    object.__setattr__(run, "stepper", _Wrapper(run.stepper, signalled))
    with StopRequest() as stop, run.recorder, pytest.raises(StoppedEarly, match=r"SIGTERM after step 2.*--resume"):
        train_loop(run, stop)
    assert load_checkpoint(run.output_dir / "checkpoints/last.pt")["step"] == 2


def test_a_used_run_folder_needs_a_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path, "schedule.max_steps=1")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty .*--resume, .*output_dir=FOLDER.*--overwrite"):
        run_tiny(tmp_path, "schedule.max_steps=1")
    run_tiny(tmp_path, "schedule.max_steps=1", resume="auto")
    assert "is finished: 1 steps are done" in capsys.readouterr().out
    run_tiny(tmp_path, "schedule.max_steps=2", overwrite=True)
    assert [row["step"] for row in read_rows(folder, "train")] == [1, 2]
    assert (folder / "notes.txt").exists()


def test_resume_auto_without_a_checkpoint_starts_fresh_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run_tiny(tmp_path, "schedule.max_steps=1", resume="auto")
    assert "no checkpoint in" in capsys.readouterr().out


def test_a_run_can_go_back_and_other_values_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path)
    early = folder / "checkpoints/step-00000002.pt"
    options = ("optimizer.lr=0.004", "log_every=2")
    with pytest.raises(
        UserError, match=r"differ from those it had:\n  optimizer\.lr 0\.005 -> 0\.004\n.*--allow-changes"
    ):
        run_tiny(tmp_path, *options, resume=str(early))
    capsys.readouterr()
    run_tiny(tmp_path, *options, resume=str(early), allow_changes=True)
    printed = capsys.readouterr().out
    assert "continues with other values than it began with: optimizer.lr 0.005 -> 0.004\n" in printed
    assert "abandoned-00000004.pt: of the course that this run had after step 2; set aside" in printed
    assert [row["step"] for row in read_rows(folder)] == [1, 2, 4, 4]  # train 1, 2, 4 and the evaluation of step 4
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["start_step"], [one["start_step"] for one in environment["earlier"]]) == (2, [0])


def test_damaged_checkpoints_are_no_reason_to_start_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path)
    steps = sorted((folder / "checkpoints").glob("step-*.pt"))
    whole = steps[1].read_bytes()
    for name in (steps[1].name, "last.pt"):
        (folder / "checkpoints" / name).unlink()
        (folder / "checkpoints" / name).write_bytes(whole[:-100])
    run_tiny(tmp_path, resume="auto")
    assert "is damaged" in (printed := capsys.readouterr().out)
    assert f"resumed from {steps[0]}" in printed
    for path in (folder / "checkpoints").glob("*.pt"):
        path.unlink()
        path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"no checkpoint is intact, and a fresh start would remove the run"):
        run_tiny(tmp_path, resume="auto")
    assert len(read_rows(folder, "train")) == 4


def test_weights_of_another_run_are_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = run_tiny(tmp_path, "schedule.max_steps=1")
    run_tiny(
        tmp_path,
        "schedule.max_steps=1",
        f"output_dir={tmp_path}/second",
        "model.head.num_convs=2",
        init_from=first / "checkpoints/last.pt",
    )
    printed = capsys.readouterr().out
    assert "initialised from" in printed
    assert "cls_subnet.convs.2.weight" in printed


def test_an_epoch_is_as_many_images_as_it_deals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # Both classes are in 5 of 8 images: sqrt(0.99 / 0.625) = 1.26. All 4 landscape images have one: 5.03 -> 5; of the
    # 4 portrait images 3: 4.78 -> 5.
    options = ("schedule={max_steps: null, epochs: 3, milestones: []}", "data.repeat_thresh=0.99")
    config, origins = tiny_config(tmp_path, *options)
    run = build_run(config, origins)
    with run.recorder:
        printed = capsys.readouterr().out
    assert (run.images_per_epoch, run.schedule.max_steps, run.steps_per_epoch) == (10, math.ceil(3 * 10 / 4), 2.5)
    assert "repeat factors: 2 of 2 classes repeated up to 1.26 times, 8 -> 10 images an epoch; rarest: red" in printed
    assert "8 steps = 3.2 epochs" in printed


def test_a_checkpoint_of_other_classes_is_no_resume(tmp_path: Path):
    folder = run_tiny(tmp_path)
    annotations = tmp_path / "data/annotations.json"
    annotations.write_text(annotations.read_text().replace('"green"', '"blue"'))
    with pytest.raises(
        UserError, match=r"trained on other classes: only in the checkpoint: green; only in the data: blue"
    ):
        run_tiny(tmp_path, resume=str(folder / "checkpoints/last.pt"))


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path):
    folder = run_tiny(tmp_path)
    with pytest.raises(UserError, match=r"last\.pt: the weights do not fit the network of this configuration"):
        run_tiny(tmp_path, "model.fpn.channels=32", resume=str(folder / "checkpoints/last.pt"), allow_changes=True)


def test_a_loaded_detector_uses_the_average_unless_told_otherwise(tmp_path: Path):
    folder = run_tiny(tmp_path, "ema.decay=0.99")
    checkpoint = folder / "checkpoints/last.pt"
    content = load_checkpoint(checkpoint)
    key = "cls_subnet.last.weight"
    averaged, raw = (load_detector(checkpoint, precision="fp32", weights=weights) for weights in (None, "raw"))
    torch.testing.assert_close(averaged.model.state_dict()[key], content["ema"]["model"][key])
    torch.testing.assert_close(raw.model.state_dict()[key], content["model"][key])
    assert not torch.equal(content["model"][key], content["ema"]["model"][key])
    plain = run_tiny(tmp_path, f"output_dir={tmp_path}/plain")
    with pytest.raises(UserError, match="has no moving average"):
        load_detector(plain / "checkpoints/last.pt", weights="ema")


def test_no_global_random_number_is_drawn_while_a_run_trains(tmp_path: Path):
    config, origins = tiny_config(tmp_path, "schedule.max_steps=2", "eval.every=2")
    run = build_run(config, origins)

    def states() -> tuple[object, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 (that nobody uses it is the point)
        return torch.get_rng_state().tolist(), random.getstate(), name, np.asarray(keys).tolist(), rest

    before = states()
    with run.recorder:
        train_loop(run)
    assert states() == before


def test_a_request_to_stop_leaves_the_evaluation_to_the_resumed_run(tmp_path: Path):
    options = ("schedule.max_steps=2", "eval.every=1", "checkpoint.every=9", "eval.num_pictures=0")
    whole = run_tiny(tmp_path, *options, f"output_dir={tmp_path}/whole")
    config, origins = tiny_config(tmp_path, *options)
    run = build_run(config, origins)
    with StopRequest() as stop:

        def stopping(*arguments: Any, **keywords: Any) -> Any:
            stop.signal_name = "SIGTERM"  # while the first image is scored
            return run.evaluator(*arguments, **keywords)

        stopped = dataclasses.replace(run, evaluator=_Wrapper(run.evaluator, stopping))
        with run.recorder, pytest.raises(StoppedEarly, match="SIGTERM after step 1; everything is saved"):
            train_loop(stopped, stop)
    assert load_checkpoint(run.output_dir / "checkpoints/last.pt")["evaluation_due"]
    assert read_rows(run.output_dir, "eval") == []
    run_tiny(tmp_path, *options, resume="auto")
    assert without_times(read_rows(run.output_dir)) == without_times(read_rows(whole))
    contents = [load_checkpoint(folder / "checkpoints/best.pt") for folder in (run.output_dir, whole)]
    torch.testing.assert_close(contents[0]["model"], contents[1]["model"], rtol=0, atol=0)
    assert contents[0]["best"] == contents[1]["best"]


def test_other_data_is_no_resume_unless_it_only_lies_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path, "schedule.max_steps=1", "eval.every=9")
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    elsewhere = [
        f"data.{split}={{annotations: {moved}/annotations.json, images: {moved}/{images}}}"
        for split, images in (("train", "images"), ("val", "val_images"))
    ]
    (tmp_path / "data").mkdir()  # nothing is made there again
    run_tiny(tmp_path, *elsewhere, "schedule.max_steps=2", resume="auto")
    assert "the schedule is another one from here on: schedule.max_steps 1 -> 2" in capsys.readouterr().out
    content = json.loads((moved / "annotations.json").read_text())
    content["annotations"].pop()
    (moved / "annotations.json").write_text(json.dumps(content))
    options = (*elsewhere, "schedule.max_steps=3")
    with pytest.raises(
        UserError, match=r"its data is not what it was:\n  data\.train: 8 images with 13 boxes -> 8 with 12"
    ):
        run_tiny(tmp_path, *options, resume="auto")
    run_tiny(tmp_path, *options, resume="auto", allow_changes=True)
    assert [row["step"] for row in read_rows(folder, "train")] == [1, 2, 3]


def test_momentum_of_another_memory_layout_belongs_to_the_same_weights(tmp_path: Path):
    config, origins = tiny_config(tmp_path, "schedule.max_steps=2", "eval.every=9")
    run = build_run(config, origins)
    run.recorder.close()
    content = run.state.to_checkpoint(dump_config(config), run.data.train.categories)
    for state in content["optimizer"]["state"].values():
        momentum = torch.randn(state["momentum_buffer"].shape)
        if momentum.ndim == 4:
            momentum = momentum.contiguous(memory_format=torch.channels_last)
        state["momentum_buffer"] = momentum
    run.state.load_checkpoint(content, "step.pt", run.data.train.categories)
    for (parameter, state), saved in zip(
        run.state.optimizer.state.items(), content["optimizer"]["state"].values(), strict=True
    ):
        assert state["momentum_buffer"].stride() == parameter.stride()
        torch.testing.assert_close(state["momentum_buffer"], saved["momentum_buffer"], rtol=0, atol=0)
