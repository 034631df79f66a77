import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.telemetry import RunRecorder, TrainRow, WarningRow
from detector.telemetry.jsonl import read_rows
from detector.telemetry.tensorboard import MAX_CLASS_TAGS
from tests.telemetry.sample_rows import (
    CLASS_NAMES,
    EVAL_NAMES,
    LEVEL_NAMES,
    OLD_EVAL_NAMES,
    OLD_TRAIN_NAMES,
    SPLIT_NAMES,
    TRAIN_NAMES,
    eval_row,
    train_row,
)

CLASSES = ("cat", "traffic light")
LEVELS = ("P3", "P4", "P5", "P6", "P7")


def strict_rows(run: Path) -> list[dict[str, Any]]:
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


def tags_by_level_and_class(kind: str) -> dict[str, tuple[str, int]]:
    """Return the tag of every number in a list, with the list's name and the place in it."""
    tags = {}
    for prefix, names, parts in (("level", LEVEL_NAMES, LEVELS), ("class", CLASS_NAMES, CLASSES)):
        group = "levels" if prefix == "level" else "classes"
        for name in names:
            for idx, part in enumerate(parts):
                tags[f"{kind}_{group}/{name.removeprefix(f'{prefix}_')}/{part}"] = (name, idx)
    return tags


def number_after(label: str, line: str) -> float:
    match = re.search(rf"\b{label}\s+(\S+?)%?(?: |$)", line)
    assert match, (label, line)
    return float(match[1])


@pytest.mark.parametrize("is_scored", [True, False])
def test_rows_are_held_until_the_evaluation_before_them_or_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_scored: bool
) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(1))
        recorder.hold_rows()
        recorder.train_row(train_row(2))
        recorder.warning_row(WarningRow(step=2, name="held", text="in the files later"))
        assert [row["step"] for row in strict_rows(tmp_path)] == [1]
        assert "in the files later" in capsys.readouterr().out
        if is_scored:
            recorder.eval_row(replace(eval_row(1), step=1))
            recorder.train_row(train_row(3))
            assert len(strict_rows(tmp_path)) == 5
    kinds = [(row["kind"], row["step"]) for row in strict_rows(tmp_path)]
    held = [("train", 2), ("warning", 2)]
    assert kinds == [("train", 1), *([("eval", 1), *held, ("train", 3)] if is_scored else held)]
    assert steps_in_tensorboard(tmp_path, "train/loss") == [1, 2, *([3] if is_scored else [])]


def test_console_file_and_tensorboard_agree_on_a_train_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunRecorder(tmp_path, max_steps=100, class_names=CLASSES) as recorder:
        recorder.train_row(train_row(3))
    (row,) = strict_rows(tmp_path)
    assert tuple(row) == TRAIN_NAMES
    assert row["kind"] == "train"
    assert row["loss"] == train_row(3).loss  # to the last digit
    accumulator = events(tmp_path)
    numbers = [name for name in TRAIN_NAMES[2:] if name not in SPLIT_NAMES]
    parts = tags_by_level_and_class("train")
    assert set(accumulator.Tags()["scalars"]) == {f"train/{name}" for name in numbers} | {*parts}
    for name in numbers:
        (event,) = accumulator.Scalars(f"train/{name}")
        assert event.step == row["step"] == 3
        assert event.value == np.float32(row[name]), name
    for tag, (name, idx) in parts.items():
        (event,) = accumulator.Scalars(tag)
        assert (event.step, event.value) == (3, np.float32(row[name][idx])), tag
    line = capsys.readouterr().out
    names = {"loss": "loss", "cls": "loss_cls", "box": "loss_box", "pos": "num_foreground", "grad": "grad_norm"}
    names["p"] = "p_foreground"
    digits = {"loss": 4, "cls": 4, "box": 4, "pos": 0, "grad": 2, "p": 3}
    for label, name in names.items():
        assert number_after(label, line) == round(row[name], digits[label]), label
    assert number_after("fg", line) == round(100 * row["fg_share"], 1)
    assert number_after("lr", line) == float(f"{row['lr']:.2e}")
    assert f"{row['images_per_second']:.1f} img/s" in line


def test_console_file_and_tensorboard_agree_on_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunRecorder(tmp_path, max_steps=100, class_names=CLASSES) as recorder:
        recorder.eval_row(eval_row(50))
    (row,) = strict_rows(tmp_path)
    assert tuple(row) == EVAL_NAMES
    assert (row["kind"], row["APl"]) == ("eval", -1)
    accumulator = events(tmp_path)
    numbers = [name for name in EVAL_NAMES[2:] if name not in SPLIT_NAMES]
    parts = tags_by_level_and_class("eval")
    assert set(accumulator.Tags()["scalars"]) == {f"eval/{name}" for name in numbers} | {*parts}
    for name in numbers:
        (event,) = accumulator.Scalars(f"eval/{name}")
        assert (event.step, event.value) == (50, np.float32(row[name])), name
    for tag, (name, idx) in parts.items():
        (event,) = accumulator.Scalars(tag)
        assert (event.step, event.value) == (50, np.float32(row[name][idx])), tag
    line = capsys.readouterr().out
    for label, name in (("AP", "AP"), ("AP50", "AP50"), ("APl", "APl"), ("loss", "loss"), ("box", "loss_box")):
        assert number_after(label, line) == round(row[name], 4), label


def test_counts_are_whole_numbers_in_the_file(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(1, num_background=2.0**24 + 1))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"num_foreground": 312, "num_background": 16777217, "num_ignored": 41,' in text
    assert '"num_gt": 61, "num_unmatched_gt": 1, "normalizer": 311.5,' in text
    assert '"level_num_foreground": [200, 201, 202, 203, 204],' in text
    assert '"class_num_gt": [800, 801]}' in text


def test_the_names_of_older_versions_are_still_there_in_their_order(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(train_row(1))
        recorder.eval_row(eval_row(1))
    for row, names in zip(strict_rows(tmp_path), (OLD_TRAIN_NAMES, OLD_EVAL_NAMES), strict=True):
        assert tuple(row)[: len(names)] == names
        assert not any(isinstance(row[name], list | dict) for name in names)


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_inside_lists_and_profiles_too(tmp_path: Path, value: float) -> None:
    profile: Any = Profile({"gammas": [0.0, 2.0], "hardest": {"foreground": [[value], (0.5, value)]}, "gamma": value})
    with RunRecorder(tmp_path, max_steps=100, class_names=CLASSES) as recorder:
        recorder.train_row(train_row(1, class_loss_cls_bg=(0.5, value), level_num_ignored=(1.0, value, 2.0)))
        recorder.eval_row(eval_row(1, level_loss_cls_fg=(value,), profile=profile))
    train, evaluation = strict_rows(tmp_path)
    assert train["class_loss_cls_bg"] == [0.5, None]
    assert train["level_num_ignored"] == [1, None, 2]
    assert evaluation["level_loss_cls_fg"] == [None]
    expected = {"gammas": [0.0, 2.0], "hardest": {"foreground": [[None], [0.5, None]]}, "gamma": None}
    assert evaluation["loss_profile"] == expected
    for tag in ("train_classes/loss_cls_bg/traffic light", "train_levels/num_ignored/P4", "eval_levels/loss_cls_fg/P3"):
        assert math.isnan(events(tmp_path).Scalars(tag)[0].value), tag


class Profile:
    """Stands for a loss profile."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def to_json(self) -> dict[str, Any]:
        return self.content


@pytest.mark.parametrize("num_classes", [MAX_CLASS_TAGS, MAX_CLASS_TAGS + 1])
def test_many_classes_have_no_tags_but_stand_in_the_file(tmp_path: Path, num_classes: int) -> None:
    names = [f"class {label}" for label in range(num_classes)]
    counts = tuple(float(label) for label in range(num_classes))
    with RunRecorder(tmp_path, max_steps=100, class_names=names) as recorder:
        recorder.train_row(train_row(1, **dict.fromkeys(CLASS_NAMES, counts)))
    (row,) = strict_rows(tmp_path)
    assert row["class_num_gt"] == [*range(num_classes)]
    tags = [tag for tag in events(tmp_path).Tags()["scalars"] if tag.startswith("train_classes/")]
    assert len(tags) == (4 * num_classes if num_classes <= MAX_CLASS_TAGS else 0)


def test_a_step_without_detail_has_no_numbers_by_class(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, max_steps=100, class_names=CLASSES) as recorder:
        recorder.train_row(train_row(1, **dict.fromkeys(CLASS_NAMES, ())))
    assert strict_rows(tmp_path)[0]["class_num_gt"] == []
    assert not [tag for tag in events(tmp_path).Tags()["scalars"] if tag.startswith("train_classes/")]


def test_a_train_row_is_read_back_from_the_file(tmp_path: Path) -> None:
    row = train_row(2, loss=math.inf, level_loss_cls_bg=(0.5, math.nan), class_num_gt=())
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.train_row(row)
    (content,) = read_rows(tmp_path / "metrics.jsonl")
    again = TrainRow.from_json(content)
    assert again.to_json() == row.to_json() == content  # NaN equals nothing, null does
    assert math.isnan(again.loss)
    assert math.isnan(again.level_loss_cls_bg[1])
    old = {name: value for name, value in content.items() if name in OLD_TRAIN_NAMES}
    assert math.isnan(TrainRow.from_json(old).normalizer)
    assert TrainRow.from_json(old).level_num_foreground == ()
    assert TrainRow.from_json(old).num_foreground == row.num_foreground


def test_a_warning_goes_to_the_console_the_file_and_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the prior is not on the class head: 'Möwe' & <b>"
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.warning_row(WarningRow(step=3, name="prior", text=text))
    assert strict_rows(tmp_path) == [{"kind": "warning", "step": 3, "name": "prior", "text": text}]
    assert capsys.readouterr().out == f"warning: {text}\n"
    accumulator = events(tmp_path)
    (tag,) = accumulator.Tags()["tensors"]
    (event,) = accumulator.Tensors(tag)
    assert tag.split("/")[0] == "warnings"
    assert (event.step, event.tensor_proto.string_val) == (3, [text.encode()])


def test_classes_pictures_figures_and_scores_go_to_tensorboard_only(tmp_path: Path) -> None:
    picture, figure = np.zeros((4, 6, 3), dtype=np.uint8), np.zeros((5, 7, 3), dtype=np.uint8)
    scores = np.array([0.02, 0.02, 0.97, 1.0], dtype=np.float32)
    row = replace(
        eval_row(7),
        per_class={"traffic light": 0.5, "Möwe": 0.25},
        pictures=[picture, picture],
        figures={"cumulative_loss": figure},
        scores=scores,
    )
    with RunRecorder(tmp_path, max_steps=100) as recorder:
        recorder.eval_row(row)
    assert tuple(strict_rows(tmp_path)[0]) == EVAL_NAMES
    accumulator = events(tmp_path)
    assert [accumulator.Scalars(f"eval_per_class/{name}")[0].value for name in row.per_class] == [0.5, 0.25]
    images = ["eval/figures/cumulative_loss", "eval/pictures/0", "eval/pictures/1"]
    assert sorted(accumulator.Tags()["images"]) == images
    (image,) = accumulator.Images("eval/figures/cumulative_loss")
    assert (image.step, image.height, image.width) == (7, 5, 7)
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
        recorder.warning_row(WarningRow(step=1, name="prior", text="warning"))
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
