"""``tools/evaluate.py``: the real command line on results files, and what is passed on for a checkpoint."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from detector.cli.evaluate import main
from detector.evaluation.coco import METRICS, score
from detector.evaluation.ground_truth import load_ground_truth
from detector.evaluation.results import CocoResults

ROOT = Path(__file__).parents[2]
DATASET = {
    "images": [{"id": 3}, {"id": 9}],
    "annotations": [
        {"image_id": 3, "category_id": 1, "bbox": [10, 10, 20, 20]},
        {"image_id": 9, "category_id": 4, "bbox": [10, 10, 50, 50]},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 4, "name": "dög"}],
}
DETECTIONS = [
    {"image_id": 3, "category_id": 1, "bbox": [11.0, 10.0, 20.0, 20.0], "score": 0.75},
    {"image_id": 9, "category_id": 1, "bbox": [10.0, 10.0, 50.0, 50.0], "score": 0.5},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "val.json").write_text(json.dumps(DATASET))
    (tmp_path / "detections.json").write_text(json.dumps(DETECTIONS))
    return tmp_path


def evaluate(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "evaluate.py"), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_results_file_is_scored_from_the_command_line(folder: Path) -> None:
    files = ["--annotations", "val.json", "--from-detections", "detections.json"]
    outputs = ["--metrics-out", "metrics.json", "--detections-out", "copy.json"]
    result = evaluate(folder, *files, *outputs)
    assert (result.returncode, result.stderr) == (0, "")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert tuple(metrics) == METRICS
    assert metrics == score(load_ground_truth(folder / "val.json"), CocoResults.from_entries(DETECTIONS)).metrics
    assert metrics["APl"] == -1
    assert metrics["AP"] > 0
    assert json.loads((folder / "copy.json").read_text()) == DETECTIONS
    assert f"{metrics['AP']:.4f}" in result.stdout
    assert "dög" in result.stdout
    assert "2 detections on 2 images" in result.stdout


def test_a_terminal_that_cannot_show_a_class_name_ends_nothing(folder: Path) -> None:
    files = ["--annotations", "val.json", "--from-detections", "detections.json"]
    result = evaluate(folder, *files, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert r"d\xf6g" in result.stdout


def test_scoring_a_file_needs_no_torch(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    files = ["--annotations", "val.json", "--from-detections", "detections.json"]
    result = evaluate(folder, *files, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")
    assert (result.returncode, result.stderr) == (0, "")


def test_no_detections_are_scored_and_not_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "none.json").write_text("[]")
    out = folder / "metrics.json"
    files = ["--annotations", str(folder / "val.json"), "--from-detections", str(folder / "none.json")]
    assert main([*files, "--metrics-out", str(out)]) == 0
    assert json.loads(out.read_text())["AP"] == 0
    assert "0 detections on 2 images" in capsys.readouterr().out


def test_an_error_on_the_command_line_is_2_and_one_plain_message(folder: Path) -> None:
    (folder / "detections.json").write_text(json.dumps([*DETECTIONS, DETECTIONS[0] | {"image_id": 4}]))
    result = evaluate(folder, "--annotations", "val.json", "--from-detections", "detections.json")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: detections.json: entry 2: image_id 4 is not among the images of val.json")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --checkpoint FILE, or --annotations JSON --from-detections JSON"),
        (["--annotations", "val.json"], "give --checkpoint FILE"),
        (["--from-detections", "detections.json"], "--from-detections needs --annotations"),
        (
            ["--annotations", "val.json", "--from-detections", "detections.json", "--weights", "raw", "a=1"],
            "found also --weights, a=1",
        ),
        (["--checkpoint", "best.pt"], "best.pt: no such file"),
        (["--checkpoint", "."], ".: is a folder"),
        (["--checkpoint", "val.json", "--annotations", "val.json"], "--annotations needs --images"),
        (["--checkpoint", "val.json", "--images", "."], "--images needs --annotations"),
        (["--annotations", "no.json", "--from-detections", "detections.json"], "no.json: no such file"),
        (["--annotations", "val.json", "--from-detections", "no.json"], "no.json: no such file"),
    ],
)
def test_options_that_do_not_go_together_and_missing_files_are_named(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--metrics-out", "--detections-out"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "is a folder"),
        ("missing/out.json", "the folder missing does not exist"),
        ("val.json", "val.json: given both as --annotations and as"),
        ("./detections.json", "detections.json: given both as --from-detections and as"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    path: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["--annotations", "val.json", "--from-detections", "detections.json", option, path]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert json.loads((folder / "val.json").read_text()) == DATASET


def test_a_checkpoint_is_evaluated_with_what_the_line_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Path, dict[str, Any]]] = []
    split = {
        "fg_share": 0.8, "p_foreground": 0.25, "p_background": math.nan, "num_gt": 7, "num_unmatched_gt": 1,
        "level_num_foreground": (1000, 20), "level_num_background": (0, 0),
    }  # fmt: skip
    scores = score(load_ground_truth(folder / "val.json"), CocoResults.from_entries(DETECTIONS))

    def evaluate_checkpoint(checkpoint: Path, **options: Any) -> SimpleNamespace:
        calls.append((checkpoint, options))
        return SimpleNamespace(
            scores=scores,
            results=CocoResults.from_entries(DETECTIONS),
            losses={"loss": 1.25},
            split=split,
            seconds=2.0,
            num_images=2,
        )

    engine = ModuleType("detector.engine.evaluate")
    engine.evaluate_checkpoint = evaluate_checkpoint  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "detector.engine.evaluate", engine)
    monkeypatch.chdir(folder)
    (folder / "best.pt").write_bytes(b"")
    line = "device=cpu --checkpoint best.pt eval.short_side=64 --weights raw --annotations val.json --images pictures"
    assert main([*line.split(), "--metrics-out", "metrics.json", "--detections-out", "out.json", "seed=1"]) == 0
    [(checkpoint, options)] = calls
    with options.pop("progress")("evaluating", 4) as advance:
        advance(4)
    assert checkpoint == Path("best.pt")
    assert options == {
        "config": None,
        "overrides": ["device=cpu", "eval.short_side=64", "seed=1"],
        "annotations": Path("val.json"),
        "images": Path("pictures"),
        "weights": "raw",
    }
    assert json.loads((folder / "metrics.json").read_text()) == scores.metrics
    assert json.loads((folder / "out.json").read_text()) == DETECTIONS
    assert (
        "validation losses: loss 1.2500\n"
        "class loss: 80.0% from 1,020 foreground anchors (mean p of their class 0.2500) and 20.0% from 0 background "
        "anchors; 1 of 7 objects have no anchor\n"
    ) in capsys.readouterr().out
