"""Every loss of the configuration trains the tiny detector, and a softmax detector is a detector like any other."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from detector.config import BoxLossConfig, ClsLossConfig
from detector.engine.checkpoint import load_checkpoint
from detector.engine.evaluate import evaluate_checkpoint
from detector.engine.inference import load_detector
from detector.engine.run import Run, build_run
from detector.engine.train import train
from detector.errors import UserError
from tests.engine.tiny import make_dataset, read_rows, tiny_config, without_times

CLS_NAMES = ClsLossConfig.model_json_schema()["properties"]["name"]["enum"]
BOX_NAMES = BoxLossConfig.model_json_schema()["properties"]["name"]["enum"]
SOFTMAX = ("loss.cls.name=softmax_focal", "model.head.activation=softmax")
METRICS = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny dataset, for runs that write nothing."""
    folder = tmp_path_factory.mktemp("tiny")
    make_dataset(folder / "data")
    return folder


def cls_overrides(name: str) -> tuple[str, str]:
    return f"loss.cls.name={name}", f"model.head.activation={'softmax' if name.startswith('softmax') else 'sigmoid'}"


@contextmanager
def tiny_run(folder: Path, *overrides: str) -> Iterator[Run]:
    """A run in a folder of its own; its learning rate is constant as long as nobody attaches the schedule."""
    output_dir = f"output_dir={tempfile.mkdtemp(dir=folder)}"
    small = ("data.batch_size=2", "data.short_side=[64]", "data.max_side=85")
    run = build_run(*tiny_config(folder, "optimizer.lr=0.01", output_dir, *small, *overrides))
    with run.recorder:
        yield run


def assert_learns(run: Run, *parts: str) -> None:
    """Steps on one and the same batch: the losses fall, and every parameter of those parts of the network moves."""
    before = {name: parameter.detach().clone() for name, parameter in run.state.model.named_parameters()}
    batch = next(iter(run.loader))
    run.state.model.train()
    totals = [run.stepper([batch], detail=True).totals for _ in range(6)]
    assert all(total.stack().isfinite().all() for total in totals)
    first, last = totals[0].losses, totals[-1].losses
    assert last.total < first.total
    assert last.loss_cls < first.loss_cls
    assert last.loss_box < first.loss_box or "box_subnet" not in parts
    for name, parameter in run.state.model.named_parameters():
        if name.startswith(parts):
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("name", CLS_NAMES)
def test_every_class_loss_trains_the_detector(folder: Path, name: str) -> None:
    # Where the target is the quality of the box, boxes that get better make the loss of the first steps rise.
    parts, options = ("backbone", "cls_subnet", "box_subnet"), cls_overrides(name)
    if name in ("quality_focal", "varifocal"):
        parts, options = parts[:2], (*options, "loss.box.weight=0")
    with tiny_run(folder, *options) as run:
        assert run.stepper.criterion.class_loss.activation == run.state.model.activation
        assert run.state.model.num_classes == 2
        assert_learns(run, *parts)


@pytest.mark.parametrize("name", BOX_NAMES)
def test_every_box_loss_trains_the_detector(folder: Path, name: str) -> None:
    with tiny_run(folder, f"loss.box.name={name}") as run:
        assert run.stepper.criterion.box_loss == name
        assert_learns(run, "backbone", "cls_subnet", "box_subnet")


def test_a_softmax_run_resumes_is_evaluated_and_predicts(tmp_path: Path) -> None:
    options = (*SOFTMAX, "eval.score_thresh=0", "loss.cls.alpha=[0.3, 0.3, 0.7]")
    whole, parts = (f"output_dir={tmp_path}/{name}" for name in ("whole", "parts"))
    train(*tiny_config(tmp_path, *options, whole))
    train(*tiny_config(tmp_path, *options, parts))
    for path in (tmp_path / "parts/checkpoints").iterdir():  # as if it had been killed after step 3
        if "00000002" not in path.name:
            path.unlink()
    train(*tiny_config(tmp_path, *options, parts), resume="auto")
    contents = [load_checkpoint(tmp_path / name / "checkpoints/last.pt")["model"] for name in ("whole", "parts")]
    assert_close(contents[0], contents[1], rtol=0, atol=0)
    assert without_times(read_rows(tmp_path / "parts")) == without_times(read_rows(tmp_path / "whole"))

    checkpoint = tmp_path / "whole/checkpoints/last.pt"
    (row,) = read_rows(tmp_path / "whole", "eval")
    result = evaluate_checkpoint(checkpoint)
    assert set(result.scores.metrics) == METRICS
    assert result.scores.metrics["AP"] == row["AP"] >= 0
    assert result.losses["loss"] == pytest.approx(row["loss"], rel=1e-5)
    assert set(result.results.category_ids.tolist()) == {7, 30}
    detector = load_detector(checkpoint)
    (detections,) = detector.detect([np.full((60, 80, 3), 128, np.uint8)])
    assert set(detections.labels.tolist()) == {0, 1}
    assert detections.scores.sum() > 0


def test_a_softmax_run_starts_with_the_loss_that_theory_gives(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tiny_run(folder, *SOFTMAX) as run:
        batch = next(iter(run.loader))
        expected = float(run.stepper.expected_first_loss([batch], prior=0.01))
        assert float(run.stepper([batch]).totals.losses.loss_cls) == pytest.approx(expected, rel=0.1)


def test_a_softmax_network_starts_from_the_weights_of_a_sigmoid_one_but_for_its_last_layer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, origins = tiny_config(folder, f"output_dir={folder}/sigmoid", "schedule.max_steps=1", "eval.every=1")
    train(config, origins)
    config, origins = tiny_config(folder, f"output_dir={folder}/softmax", *SOFTMAX)
    with build_run(config, origins, init_from=folder / "sigmoid/checkpoints/last.pt").recorder:
        printed = capsys.readouterr().out
    assert "last layer of the class head: new, as the checkpoint's is for sigmoid and this one for softmax" in printed


def test_alphas_that_do_not_fit_the_classes_are_an_error_of_the_user(folder: Path) -> None:
    with (
        pytest.raises(
            UserError, match=r"^loss\.cls\.alpha: a list of 3, but the data has 2 classes; sigmoid_focal takes"
        ),
        tiny_run(folder, "loss.cls.alpha=[0.1, 0.2, 0.3]"),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "recipe"),
    [
        (("loss.cls.alpha=null",), "sigmoid_focal (alpha null, gamma 2, prior 0.01) + smooth_l1 (beta 0)"),
        (
            ("loss.cls.name=focal_star", "loss.cls.alpha=[0.5, 0.25]", "loss.box.weight=2"),
            "focal_star (alpha [0.5, 0.25], gamma 2, beta 1, prior 0.01) + 2 x smooth_l1 (beta 0)",
        ),
        (
            ("loss.cls.name=ohem", "loss.box.name=giou"),
            "ohem (negatives_per_positive 3, prior 0.01) + giou, normaliser batch",
        ),
        (("loss.cls.name=quality_focal",), "quality_focal (gamma 2, prior 0.01) + smooth_l1 (beta 0)"),
    ],
)
def test_the_report_shows_only_the_parameters_that_act(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], recipe: str
) -> None:
    with tiny_run(folder, *options):
        printed = capsys.readouterr().out
    assert recipe in printed
    assert "has no effect" not in printed


def test_a_parameter_that_the_chosen_loss_does_not_read_is_named_if_it_was_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("loss.cls.name=ohem", "loss.cls.gamma=3", "loss.cls.alpha=[0.1, 0.2]", "loss.cls.beta=1.0")
    with tiny_run(folder, *options, "loss.box.name=diou", "loss.box.beta=0.11"):
        notes = [line for line in capsys.readouterr().out.splitlines() if "has no effect" in line]
    assert notes == [
        "loss.cls.alpha = [0.1, 0.2] has no effect: loss.cls.name = ohem does not read it",
        "loss.cls.gamma = 3 has no effect: loss.cls.name = ohem does not read it",
        "loss.box.beta = 0.11 has no effect: loss.box.name = diou does not read it",
    ]
