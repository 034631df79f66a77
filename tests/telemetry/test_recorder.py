import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.telemetry import EvalRow, RunRecorder, TrainRow

TRAIN_NAMES = (
    "kind", "step", "epoch", "loss", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg", "fg_share", "num_foreground",
    "num_background", "num_ignored", "lr", "grad_norm", "data_seconds", "step_seconds", "images_per_second",
)  # fmt: skip
COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
EVAL_NAMES = ("kind", "step", *COCO_NAMES, "loss", "loss_cls", "loss_cls_fg", "loss_cls_bg", "loss_box")


def train_row(step: int, **changes: float) -> TrainRow:
    numbers = {name: (i + 1 / 3) * step for i, name in enumerate(TRAIN_NAMES[2:])}
    counts = {"num_foreground": 312.0, "num_background": 91234.0, "num_ignored": 40.0 + step}
    return TrainRow(step=step, **(numbers | counts | changes))


def eval_row(step: int) -> EvalRow:
    metrics = {name: i / 13 for i, name in enumerate(COCO_NAMES)} | {"APl": -1.0}
    return EvalRow(step=step, metrics=metrics, loss=1.5, loss_cls=1.0, loss_cls_fg=0.75, loss_cls_bg=0.25, loss_box=0.5)


def strict_rows(run: Path) -> list[dict[str, float | None]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def steps_in_tensorboard(run: Path, tag: str) -> list[int]:
    return [event.step for event in events(run).Scalars(tag)]


def number_after(label: str, line: str) -> float:
    match = re.search(rf"\b{label}\s+(\S+?)%?(?: |$)", line)
    assert match, (label, line)
    return float(match[1])


def test_console_file_and_tensorboard_agree_on_a_train_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(3))
    (row,) = strict_rows(tmp_path)
    assert tuple(row) == TRAIN_NAMES
    assert row["kind"] == "train"
    assert row["loss"] == train_row(3).loss  # to the last digit
    accumulator = events(tmp_path)
    assert set(accumulator.Tags()["scalars"]) == {f"train/{name}" for name in TRAIN_NAMES[2:]}
    for name in TRAIN_NAMES[2:]:
        (event,) = accumulator.Scalars(f"train/{name}")
        assert event.step == row["step"] == 3
        assert event.value == np.float32(row[name]), name
    line = capsys.readouterr().out
    names = {"loss": "loss", "cls": "loss_cls", "box": "loss_box", "pos": "num_foreground", "grad": "grad_norm"}
    digits = {"loss": 4, "cls": 4, "box": 4, "pos": 0, "grad": 2}
    for label, name in names.items():
        assert number_after(label, line) == round(row[name], digits[label]), label
    assert number_after("fg", line) == round(100 * row["fg_share"], 1)
    assert number_after("lr", line) == float(f"{row['lr']:.2e}")
    assert f"{row['images_per_second']:.1f} img/s" in line


def test_console_file_and_tensorboard_agree_on_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.eval_row(eval_row(50))
    (row,) = strict_rows(tmp_path)
    assert tuple(row) == EVAL_NAMES
    assert (row["kind"], row["APl"]) == ("eval", -1)
    accumulator = events(tmp_path)
    assert set(accumulator.Tags()["scalars"]) == {f"eval/{name}" for name in EVAL_NAMES[2:]}
    for name in EVAL_NAMES[2:]:
        (event,) = accumulator.Scalars(f"eval/{name}")
        assert (event.step, event.value) == (50, np.float32(row[name])), name
    line = capsys.readouterr().out
    for label, name in (("AP", "AP"), ("AP50", "AP50"), ("APl", "APl"), ("loss", "loss"), ("box", "loss_box")):
        assert number_after(label, line) == round(row[name], 4), label


def test_counts_are_whole_numbers_in_the_file(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(1, num_background=2.0**24 + 1))
    assert (
        '"num_foreground": 312, "num_background": 16777217, "num_ignored": 41,'
        in (tmp_path / "metrics.jsonl").read_text()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_in_the_file_and_nan_in_tensorboard(tmp_path: Path, value: float) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(1, loss=value, fg_share=value, step_seconds=value, num_ignored=value))
        recorder.eval_row(replace(eval_row(1), loss_box=value, per_class={"cat": value}))
    train, evaluation = strict_rows(tmp_path)
    assert [train[name] for name in ("loss", "fg_share", "step_seconds", "num_ignored")] == [None] * 4
    assert evaluation["loss_box"] is None
    for tag in ("train/loss", "train/num_ignored", "eval/loss_box", "eval_per_class/cat"):
        assert math.isnan(events(tmp_path).Scalars(tag)[0].value), tag


def test_classes_pictures_and_scores_go_to_tensorboard_only(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    scores = np.array([0.02, 0.02, 0.97, 1.0], dtype=np.float32)
    row = replace(
        eval_row(7), per_class={"traffic light": 0.5, "Möwe": 0.25}, pictures=[picture, picture], scores=scores
    )
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.eval_row(row)
    assert tuple(strict_rows(tmp_path)[0]) == EVAL_NAMES
    accumulator = events(tmp_path)
    assert [accumulator.Scalars(f"eval_per_class/{name}")[0].value for name in row.per_class] == [0.5, 0.25]
    assert sorted(accumulator.Tags()["images"]) == ["eval/pictures/0", "eval/pictures/1"]
    (image,) = accumulator.Images("eval/pictures/1")
    assert (image.step, image.height, image.width) == (7, 4, 6)
    (histogram,) = accumulator.Histograms("eval/scores")
    assert (histogram.step, histogram.histogram_value.num, sum(histogram.histogram_value.bucket)) == (7, 4, 4)


def test_an_evaluation_without_detections_has_no_histogram(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.eval_row(replace(eval_row(7), scores=np.zeros(0, dtype=np.float32)))
    assert events(tmp_path).Tags()["histograms"] == []


def test_a_resumed_run_doubles_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunRecorder(tmp_path, max_steps=6) as recorder:
        for step in (1, 2, 3, 4):
            recorder.train_row(train_row(step, loss=float(step)))
            recorder.eval_row(eval_row(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 5, "lo')
    with RunRecorder(tmp_path, max_steps=6, start_step=2) as recorder:
        for step in (3, 4, 5):
            recorder.train_row(train_row(step, loss=10.0 * step))
    assert [(row["kind"], row["step"], row["loss"]) for row in strict_rows(tmp_path)] == [
        ("train", 1, 1.0), ("eval", 1, 1.5), ("train", 2, 2.0), ("eval", 2, 1.5), ("train", 3, 30.0),
        ("train", 4, 40.0), ("train", 5, 50.0),
    ]  # fmt: skip
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("train/loss")] == [
        (1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)
    ]  # fmt: skip
    assert steps_in_tensorboard(tmp_path, "eval/AP") == [1, 2]
    assert "metrics.jsonl: removed 5 lines after step 2" in capsys.readouterr().out


def test_a_run_that_starts_anew_in_the_same_folder_hides_the_old_rows(tmp_path: Path) -> None:
    for last_step in (3, 1):
        with RunRecorder(tmp_path, max_steps=6) as recorder:
            for step in range(last_step + 1):
                recorder.train_row(train_row(step))
    assert [row["step"] for row in strict_rows(tmp_path)] == [0, 1]
    assert steps_in_tensorboard(tmp_path, "train/loss") == [0, 1]


def test_a_row_is_on_disk_everywhere_before_the_next_step(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=6) as recorder:
        recorder.train_row(train_row(1))
        assert len(strict_rows(tmp_path)) == 1
        assert steps_in_tensorboard(tmp_path, "train/loss") == [1]


def test_processes_other_than_the_main_one_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with RunRecorder(run, max_steps=6, is_main=False) as recorder:
        recorder.train_row(train_row(1))
        recorder.eval_row(eval_row(1))
        recorder.note("note")
        recorder.warn("warning")
        with recorder.progress("evaluating", 3) as advance:
            advance(1)
    assert not run.exists()
    assert capsys.readouterr().out == ""


def test_the_eta_smooths_the_step_time_but_the_file_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunRecorder(tmp_path, max_steps=12) as recorder:
        for step, seconds in ((1, 1.0), (2, 11.0)):
            recorder.train_row(train_row(step, step_seconds=seconds))
    assert [row["step_seconds"] for row in strict_rows(tmp_path)] == [1.0, 11.0]
    assert re.findall(r"eta (\S+)", capsys.readouterr().out) == [
        "0:00:11",
        "0:00:40",
    ]  # 10 steps x (.7 x 1 + .3 x 11) s


def test_notes_stand_above_the_bar_and_an_error_gives_the_terminal_back(tmp_path: Path) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60)
    with pytest.raises(RuntimeError), RunRecorder(tmp_path, max_steps=6, console=console) as recorder:  # noqa: PT012
        recorder.train_row(train_row(2))
        recorder.step_done(2)
        recorder.note("a table\nof two lines")
        recorder.eval_row(eval_row(2))
        raise RuntimeError
    output = file.getvalue()
    assert "2/6" in output.split("a table\nof two lines\n")[-1]
    assert output.rfind("\x1b[?25h") > output.rfind("\x1b[?25l")  # the cursor is shown again


def test_a_closed_recorder_takes_no_row(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path, max_steps=6)
    recorder.close()
    recorder.close()
    with pytest.raises(ValueError, match="closed file"):
        recorder.train_row(train_row(1))
