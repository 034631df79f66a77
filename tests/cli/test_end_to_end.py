"""The commands one after the other on the tiny data set: train, evaluate, predict, and train again."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from detector.cli.evaluate import main as evaluate
from detector.cli.predict import main as predict
from detector.cli.train import main as train
from detector.engine.checkpoint import load_checkpoint
from detector.evaluation.coco import METRICS
from tests.engine.tiny import make_dataset, read_rows, write_config

ROOT = Path(__file__).parents[2]
RECIPE = (
    "optimizer.name=adamw", "optimizer.lr=0.003", "ema.decay=0.5", "eval.every=4", "checkpoint.every=4",
    "schedule.max_steps=8", "schedule.milestones=[]", "eval.score_thresh=0.01",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, its recipe and a finished run, which tests must not change."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, make_dataset(folder / "data"))
    assert train(["--config", str(config), *RECIPE]) == 0
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe of a data set in a folder of the test's own; its run has two steps."""
    config = write_config(tmp_path, make_dataset(tmp_path / "data"))
    config.write_text(config.read_text().replace("max_steps: 4", "max_steps: 2"))
    return config


def evaluated(folder: Path, *arguments: str, checkpoint: Path) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Run ``evaluate`` and return the content of its two files."""
    outputs = folder / "metrics.json", folder / "detections.json"
    options = ["--metrics-out", str(outputs[0]), "--detections-out", str(outputs[1])]
    assert evaluate(["--checkpoint", str(checkpoint), *options, *arguments]) == 0
    metrics, detections = (json.loads(path.read_text()) for path in outputs)
    return metrics, detections


def test_a_checkpoint_scores_what_its_run_logged(trained: Path, tmp_path: Path) -> None:
    rows = {row["step"]: row for row in read_rows(trained / "run", "eval")}
    best = max(rows, key=lambda step: (rows[step]["AP"], -step))
    assert rows[best]["AP"] > 0
    for name, step in (("best", best), ("step-00000004", 4), ("last", 8)):
        checkpoint = trained / f"run/checkpoints/{name}.pt"
        assert load_checkpoint(checkpoint)["step"] == step
        metrics, _ = evaluated(tmp_path, checkpoint=checkpoint)
        assert tuple(metrics) == METRICS
        assert metrics == pytest.approx({key: rows[step][key] for key in METRICS}, abs=1e-6)


def test_the_printed_validation_losses_are_those_of_the_log(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--checkpoint", str(trained / "run/checkpoints/last.pt")]) == 0
    row = read_rows(trained / "run", "eval")[-1]
    printed = capsys.readouterr().out
    for name in ("loss", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg"):
        assert f"{name} {row[name]:.4f}" in printed


def test_written_detections_score_the_same_without_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    metrics, detections = evaluated(tmp_path, checkpoint=trained / "run/checkpoints/last.pt")
    assert len(detections) > 0
    assert {entry["category_id"] for entry in detections} <= {7, 30}
    again = tmp_path / "again.json"
    files = ["--annotations", str(trained / "data/annotations.json"), "--from-detections"]
    assert evaluate([*files, str(tmp_path / "detections.json"), "--metrics-out", str(again)]) == 0
    assert json.loads(again.read_text()) == metrics


def test_raw_and_averaged_weights_are_scored_as_asked_for(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "run/checkpoints/last.pt"
    default, ema, raw = (
        evaluated(tmp_path, *options, checkpoint=checkpoint)[1]
        for options in ((), ("--weights", "ema"), ("--weights", "raw"))
    )
    assert default == ema
    assert raw != ema


@pytest.mark.parametrize("options", [(1, 0), (2, 2)])
def test_an_evaluation_depends_neither_on_batch_size_nor_on_workers(
    trained: Path, tmp_path: Path, options: tuple[int, int]
) -> None:
    checkpoint = trained / "run/checkpoints/last.pt"
    metrics, detections = evaluated(tmp_path, checkpoint=checkpoint)
    overrides = [f"eval.batch_size={options[0]}", f"data.num_workers={options[1]}"]
    other_metrics, others = evaluated(tmp_path, *overrides, checkpoint=checkpoint)
    assert other_metrics == metrics
    assert len(others) == len(detections)
    for one, other in zip(detections, others, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)


def test_other_images_of_the_same_classes_can_be_scored(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_dataset(tmp_path / "other", num_images=3, seed=5)
    given = ["--annotations", str(other / "annotations.json"), "--images", str(other / "images")]
    _, detections = evaluated(tmp_path, *given, checkpoint=trained / "run/checkpoints/last.pt")
    assert {entry["image_id"] for entry in detections} <= {100, 101, 102}
    assert "detections on 3 images" in capsys.readouterr().out


def test_evaluation_takes_another_configuration(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "run/checkpoints/last.pt"
    config = ["--config", str(trained / "run/config.yaml")]
    assert evaluated(tmp_path, *config, checkpoint=checkpoint) == evaluated(tmp_path, checkpoint=checkpoint)
    _, few = evaluated(tmp_path, *config, "eval.max_detections=1", checkpoint=checkpoint)
    assert len(few) <= 8


def test_predict_finds_what_evaluate_finds(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / "run/checkpoints/last.pt"
    _, detections = evaluated(tmp_path, checkpoint=checkpoint)
    line = ["--checkpoint", str(checkpoint), "--precision", "fp32", "--device", "cpu"]
    assert predict([*line, "--input", str(trained / "data/images"), "--output", str(tmp_path / "all")]) == 0
    predictions = json.loads((tmp_path / "all/predictions.json").read_text())
    assert [entry["file"] for entry in predictions] == [f"{idx}.png" for idx in range(8)]
    for idx, entry in enumerate(predictions):
        expected = [found for found in detections if found["image_id"] == 100 + idx]
        assert len(entry["detections"]) == len(expected)
        for found, wanted in zip(entry["detections"], expected, strict=True):
            x, y, width, height = wanted["bbox"]
            assert found["box"] == pytest.approx([x, y, x + width, y + height], abs=2e-3)
            assert found["score"] == pytest.approx(wanted["score"], abs=1e-5)
            assert found["category_id"] == wanted["category_id"]
            assert found["label"] == {7: "red", 30: "green"}[wanted["category_id"]]
    one = tmp_path / "one"
    assert predict([*line, "--input", str(trained / "data/images/3.png"), "--output", str(one)]) == 0
    assert json.loads((one / "predictions.json").read_text()) == [predictions[3]]
    assert (one / "3.png").is_file()


def test_overrides_may_stand_anywhere_on_the_line(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "seed=3",
        "--config",
        str(recipe),
        "log_every=7",
        "--print-config",
        "--resume",
        "optimizer.lr=0.25",
        "ema.decay=0.5",
    ]
    assert train(line) == 0
    printed = capsys.readouterr().out
    for text in ("seed: 3 ", "log_every: 7 ", "lr: 0.25 ", "decay: 0.5 "):
        assert next(row for row in printed.splitlines() if text in f"{row} ").endswith("# the command line")
    assert next(row for row in printed.splitlines() if "max_side: 96" in row).endswith("tiny.yaml:9")
    assert next(row for row in printed.splitlines() if "nms_thresh" in row).endswith("# default")
    assert not (recipe.parent / "run").exists()


def test_an_empty_line_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert train([]) == 2
    assert "the following arguments are required: --config" in capsys.readouterr().err


def test_of_two_values_the_later_counts_also_after_resume(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--config", str(recipe), "--print-config", "seed=1", "--resume", "seed=2"]
    assert train(line) == 0
    assert "seed: 2 " in capsys.readouterr().out
    long = f"schedule.milestones=[{', '.join(map(str, range(1, 300)))}]"
    assert train([*line, "--resume", long, "seed=3"]) == 0
    assert "seed: 3 " in capsys.readouterr().out


def test_resume_takes_a_checkpoint_and_overrides(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recipe.parent
    run = folder / "run"
    line = ["--config", str(recipe)]
    assert train([*line, "checkpoint.every=1", "optimizer.weight_decay=0.5"]) == 0
    rows = read_rows(run)
    first = str(run / "checkpoints/step-00000001.pt")
    more = ["schedule.max_steps=3", "eval.every=2", "checkpoint.every=1"]
    assert train([*line, "--resume", first, *more]) == 2
    assert "optimizer.weight_decay" in capsys.readouterr().err
    assert train([*line, "--resume", first, *more, "--allow-changes"]) == 0
    assert f"resumed from {first}" in capsys.readouterr().out
    assert [row["step"] for row in read_rows(run, "train")] == [1, 2, 3]
    assert read_rows(run)[0] == rows[0]
    optimizer = load_checkpoint(run / "checkpoints/last.pt")["optimizer"]
    assert {group["weight_decay"] for group in optimizer["param_groups"]} == {1e-4}  # the line's, not the checkpoint's
    assert train([*line, "--resume", "schedule.max_steps=4"]) == 0
    assert [row["step"] for row in read_rows(run, "train")] == [1, 2, 3, 4]
    assert train(["--resume", "auto", *line, "schedule.max_steps=4"]) == 0
    assert "is finished: 4 steps are done" in capsys.readouterr().out
    assert [row["step"] for row in read_rows(run, "train")] == [1, 2, 3, 4]


def test_the_last_checkpoint_is_enough_to_resume(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--config", str(recipe)]) == 0
    for path in (recipe.parent / "run/checkpoints").glob("step-*"):
        path.unlink()
    assert train(["--config", str(recipe), "--resume", "schedule.max_steps=3"]) == 0
    assert "resumed from" in capsys.readouterr().out
    assert [row["step"] for row in read_rows(recipe.parent / "run", "train")] == [1, 2, 3]


def test_a_used_folder_needs_resume_or_overwrite(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--config", str(recipe), "schedule.max_steps=1"]
    assert train([*line, "--resume"]) == 0
    assert "starting from step 0" in capsys.readouterr().out
    before = (recipe.parent / "run/metrics.jsonl").read_bytes()
    assert train(line) == 2
    assert "--resume" in capsys.readouterr().err
    assert (recipe.parent / "run/metrics.jsonl").read_bytes() == before
    assert train([*line, "--overwrite", "seed=1"]) == 0
    assert (recipe.parent / "run/metrics.jsonl").read_bytes() != before


@pytest.mark.slow
def test_overwriting_a_run_with_one_that_starts_from_its_weights_works(recipe: Path) -> None:
    line = ["--config", str(recipe), "schedule.max_steps=1"]
    assert train(line) == 0
    checkpoint = recipe.parent / "run/checkpoints/last.pt"
    assert train([*line, "--overwrite", "--init-from", str(checkpoint)]) == 0


@pytest.mark.slow
def test_overwrite_removes_links_and_not_what_they_point_to(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "big disk").mkdir()
    (tmp_path / "run/checkpoints").symlink_to(tmp_path / "big disk")
    line = ["--config", str(recipe), "schedule.max_steps=1"]
    assert train([*line, "--resume"]) == 0
    assert (tmp_path / "big disk/last.pt").is_file()
    assert train([*line, "--overwrite"]) == 0
    assert (tmp_path / "big disk/last.pt").is_file()
    assert not (tmp_path / "run/checkpoints").is_symlink()


def run_tool(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, **options
    )


def test_the_script_of_the_checkout_and_the_console_command_are_the_same(recipe: Path, tmp_path: Path) -> None:
    line = ["--config", str(recipe), "--print-config", "seed=5"]
    script = run_tool(str(ROOT / "tools/train.py"), *line, cwd=tmp_path)
    command = run_tool("-m", "detector.cli.main", "train", *line, cwd=tmp_path)
    assert (script.returncode, script.stderr) == (0, "")
    assert "seed: 5" in script.stdout
    assert (command.returncode, command.stdout, command.stderr) == (0, script.stdout, "")


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_stopped_by_a_signal_is_continued_by_the_line_it_prints(recipe: Path, num_workers: int) -> None:
    # The signal goes to the whole process group, loader workers included, as batch systems send it.
    line = ["--config", str(recipe), "schedule.max_steps=2000", "eval.every=5000", "checkpoint.every=5000"]
    run = recipe.parent / "the run"
    line += [f"output_dir={run}", f"data.num_workers={num_workers}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools/train.py"), *line],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not ((run / "metrics.jsonl").exists() and len(read_rows(run)) >= 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    (hint,) = [text for text in errors.splitlines() if "Continue with: " in text]
    command = shlex.split(hint.split("Continue with: detector ")[1])
    assert command == ["train", "--config", str(run / "config.yaml"), "--resume"]
    done = len(read_rows(run))
    assert train([*command[1:], f"schedule.max_steps={done + 2}", "data.num_workers=0"]) == 0
    assert [row["step"] for row in read_rows(run, "train")] == list(range(1, done + 3))


@pytest.mark.slow
def test_the_commands_work_from_another_folder_and_on_another_name(recipe: Path, tmp_path: Path) -> None:
    shutil.copy(recipe, tmp_path / "my recipe.yaml")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    given = ["--config", str(tmp_path / "my recipe.yaml"), "output_dir=the run"]
    result = run_tool(str(ROOT / "tools/train.py"), *given, cwd=elsewhere)
    assert (result.returncode, result.stderr) == (0, "")
    checkpoint = elsewhere / "the run/checkpoints/best.pt"
    result = run_tool(str(ROOT / "tools/evaluate.py"), "--checkpoint", str(checkpoint), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
