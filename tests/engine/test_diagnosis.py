"""Runs that are broken on purpose, each in one way, and the line that they print; a healthy one prints none."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from detector.criterion import LossNormalizer
from detector.engine.run import Run, build_run
from detector.engine.train import train, train_loop
from detector.telemetry import diagnosis_checks, input_wait
from tests.engine.tiny import make_dataset, read_rows, tiny_config

SMALL = ("data.short_side=[48]", "data.max_side=64", "eval.num_pictures=0", "checkpoint.every=1000")
"""Half the size: a step takes a tenth of a second."""

FITTING = ("model.anchors.sizes=[12, 16, 20, 24, 48]", "model.anchors.offset=0.5")
"""Anchors of every level but the last have objects of their size, so that only what a test breaks is told."""

LEARNING = ("model.fpn.channels=32", "model.head.norm=group", "optimizer.name=adamw", "optimizer.lr=0.002")
"""A network and an optimiser that learn the set in some dozen steps."""


def steps(count: int) -> tuple[str, ...]:
    return f"schedule.max_steps={count}", f"eval.every={count}", "schedule.milestones=[]"


def build(folder: Path, *overrides: str) -> Run:
    return build_run(*tiny_config(folder, *SMALL, *FITTING, *overrides))


def run_tiny(folder: Path, *overrides: str, **options: Any) -> Path:
    config, origins = tiny_config(folder, *SMALL, *FITTING, *overrides)
    train(config, origins, **options)
    return Path(config.output_dir)


def warnings_of(run_folder: Path) -> dict[str, str]:
    """Return the text of every warning row by name; fails if one is there twice."""
    rows = read_rows(run_folder, "warning")
    texts = {row["name"]: row["text"] for row in rows}
    assert len(texts) == len(rows)
    return texts


def printed_warnings(printed: str) -> list[str]:
    return re.findall(r"^warning: (.*)$", printed, flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run of some dozen steps be judged as one of hundreds."""
    monkeypatch.setattr(diagnosis_checks, "MIN_PATIENCE", 0)
    monkeypatch.setattr(input_wait, "WAIT_SHARE", 2.0)  # how long data is waited for is the machine's affair


@pytest.fixture
def _few_boxes_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny set, with six boxes a step, show in ten steps what takes hundreds of boxes."""
    monkeypatch.setattr(diagnosis_checks, "MIN_GT_FOR_MISSED", 30)
    monkeypatch.setattr(diagnosis_checks, "MIN_GT_FOR_LEVEL", 30)
    monkeypatch.setattr(diagnosis_checks, "MIN_ROWS_FOR_LEVEL", 8)


def test_losses_divided_by_all_anchors_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    class OverAllAnchors(LossNormalizer):
        def __call__(self, num_foreground: Tensor, total_foreground: Tensor, num_images: int) -> Tensor:
            return torch.tensor(num_anchors)

    run = build(tmp_path, *steps(2))
    targets = run.stepper.matcher(next(iter(run.loader)))[1]
    num_anchors = float(targets.target_labels.numel())
    run.state.normalizer = OverAllAnchors()
    with run.recorder:
        train_loop(run)
    (text,) = printed_warnings(capsys.readouterr().out)
    assert f"the losses are divided by {num_anchors:.0f}, but only " in text
    assert warnings_of(run.output_dir) == {"normalizer": text}
    assert read_rows(run.output_dir)[1]["kind"] == "warning"  # at the first row


def test_cross_entropy_without_a_prior_drowns_in_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loss = ("loss.cls.name=sigmoid_ce", "loss.cls.alpha=0.1", "model.head.prior=0.5")
    folder = run_tiny(tmp_path, *steps(8), *loss, "optimizer.lr=1e-6")
    rows = read_rows(folder, "train")
    assert all(row["fg_share"] < 0.01 for row in rows)
    texts = warnings_of(folder)
    assert re.search(
        r"background anchors hold 99\.\d % of the class loss since step 2, after the warm-up", texts["background"]
    )
    assert texts["background"].endswith(
        "a higher loss.cls.alpha, or loss.cls.name=sigmoid_focal; start with model.head.prior=0.01"
    )
    assert texts["background"] in printed_warnings(capsys.readouterr().out)


@pytest.mark.slow
def test_a_learning_rate_of_almost_nothing_is_seen_twice_and_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = (*steps(34), "optimizer.lr=1e-12")
    folder = run_tiny(tmp_path, *options, "checkpoint.every=10")
    texts = warnings_of(folder)
    assert {*texts} == {"foreground_p", "loss"}
    assert "the prior put it at 0.01" in texts["foreground_p"]
    assert "the loss has not fallen since the first rows: " in texts["loss"]
    assert "(now 1e-12)" in texts["loss"]
    assert printed_warnings(capsys.readouterr().out) == [*texts.values()]
    for row in read_rows(folder, "train"):
        assert row["p_foreground"] == pytest.approx(0.01, rel=0.1)
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    (tag,) = [tag for tag in events.Tags()["tensors"] if tag.startswith("warnings")]
    assert [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)] == [*texts.values()]

    # From step 20 on: the first warning is kept and the second one is written again, from the same history.
    step = next(row["step"] for row in read_rows(folder, "warning") if row["name"] == "loss")
    assert step > 20
    before = read_rows(folder, "warning")
    run_tiny(tmp_path, *options, resume=str(folder / "checkpoints/step-00000020.pt"))
    assert printed_warnings(capsys.readouterr().out) == [texts["loss"]]
    assert read_rows(folder, "warning") == before
    # Continued beyond the end nothing is left to be told.
    run_tiny(tmp_path, *steps(36), "optimizer.lr=1e-12", resume="auto")
    assert printed_warnings(capsys.readouterr().out) == []
    assert read_rows(folder, "warning") == before


@pytest.mark.usefixtures("_few_boxes_are_enough")
def test_levels_whose_anchors_fit_no_object_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path, *steps(10), *LEARNING, "model.anchors.sizes=[16, 20, 300, 24, 500]")
    assert [row["level_num_foreground"][2] for row in read_rows(folder, "train")] == [0] * 10
    (text,) = printed_warnings(capsys.readouterr().out)
    assert "no anchor of P5 (anchors of 300 to 476 px), P7 (anchors of 500 to 794 px) has had an object" in text
    assert warnings_of(folder) == {"level": text}


@pytest.mark.usefixtures("_few_boxes_are_enough")
def test_a_class_and_boxes_that_no_anchor_fits_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    annotations = make_dataset(tmp_path / "data") / "annotations.json"
    content = json.loads(annotations.read_text())
    for box in content["annotations"]:
        if box["category_id"] == 30:  # green ones become lines
            box["bbox"][2] = 2.0
    annotations.write_text(json.dumps(content))
    folder = run_tiny(tmp_path, *steps(16), *LEARNING, "assign.allow_low_quality_matches=false")
    texts = warnings_of(folder)
    assert {*texts} == {"class", "unmatched_gt"}
    assert re.search(
        r"no anchor has been assigned to 'green' \(2\d boxes seen\): the class cannot be learnt", texts["class"]
    )
    assert re.search(r"the anchors miss \d\d % of the boxes \(\d+ of \d+ so far\)", texts["unmatched_gt"])
    assert printed_warnings(capsys.readouterr().out) == [row["text"] for row in read_rows(folder, "warning")]


@pytest.mark.slow
@pytest.mark.usefixtures("_few_boxes_are_enough")
def test_a_healthy_run_prints_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_tiny(tmp_path, *steps(60), *LEARNING, "schedule.warmup_steps=6")
    rows = read_rows(folder, "train")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["p_foreground"] > 0.2
    assert warnings_of(folder) == {}
    assert printed_warnings(capsys.readouterr().out) == []


@pytest.mark.slow
def test_weights_of_another_run_are_not_compared_with_the_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = run_tiny(tmp_path, *steps(1))
    run = build_run(
        *tiny_config(tmp_path, *SMALL, *FITTING, *steps(1), f"output_dir={tmp_path}/second"),
        init_from=first / "checkpoints/last.pt",
    )
    assert run.diagnosis._history.facts.is_initialised
    torch.nn.init.zeros_(run.state.model.cls_subnet.last.bias)
    with run.recorder:
        train_loop(run)
    assert printed_warnings(capsys.readouterr().out) == []
    # Continued, it is still such a run.
    resumed = build_run(
        *tiny_config(tmp_path, *SMALL, *FITTING, *steps(2), f"output_dir={tmp_path}/second"), resume="auto"
    )
    resumed.recorder.close()
    assert resumed.diagnosis._history.facts.is_initialised
