"""Scoring beside training: the same files as without, whatever comes between an evaluation and its score."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.engine import evaluations
from detector.engine.background_scorer import BackgroundScorer
from detector.engine.checkpoint import load_checkpoint
from detector.engine.evaluator import Evaluator
from detector.engine.run import Run, build_run
from detector.engine.stop import StopRequest
from detector.engine.train import train, train_loop
from detector.errors import ResourceError, StoppedEarly, UserError
from detector.evaluation.coco import CocoScores, score
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
from tests.engine.ranks import Launch, Ranks
from tests.engine.test_exact_resume import STATE, assert_same_run
from tests.engine.tiny import make_dataset, read_rows, tiny_config, write_config

ROOT = Path(__file__).parents[2]
SCHEDULE = (
    "schedule.max_steps=6", "schedule.milestones=[5]", "eval.every=2", "checkpoint.every=3", "checkpoint.keep=9",
    "eval.num_pictures=1", "eval.score_thresh=0.001", "ema.decay=0.9",
)  # fmt: skip
BACKGROUND = "eval.background=true"


class LateScorer(BackgroundScorer):
    """Scores as its base does, but its score is there only when it is waited for."""

    def is_done(self) -> bool:
        return False


@pytest.fixture
def _late_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "BackgroundScorer", LateScorer)


@pytest.fixture
def _rising_and_falling_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the second of three evaluations the best, whoever scores."""

    def changing(inner: Callable[..., CocoScores]) -> Callable[..., CocoScores]:
        values = iter((0.1, 0.3, 0.2))

        def call(*arguments: Any) -> CocoScores:
            scores = inner(*arguments)
            scores.metrics["AP"] = next(values)
            return scores

        return call

    monkeypatch.setattr(LateScorer, "finish", changing(BackgroundScorer.finish), raising=False)
    monkeypatch.setattr(Evaluator, "score", changing(Evaluator.score))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset and a run on it, ``at_once``, that scores nothing beside training."""
    folder = tmp_path_factory.mktemp("background")
    run_whole(folder, f"output_dir={folder}/at_once")
    return folder


def build(folder: Path, *overrides: str) -> Run:
    config, origins = tiny_config(folder, *SCHEDULE, *overrides)
    return build_run(config, origins)


def run_whole(folder: Path, *overrides: str, **options: Any) -> Path:
    config, origins = tiny_config(folder, *SCHEDULE, *overrides)
    train(config, origins, **options)
    return Path(config.output_dir)


def before_step(run: Run, number: int, action: Callable[[], object]) -> Run:
    """Do something when the step before ``number`` is over and done with."""
    inner = run.stepper

    class Stepper:
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            if run.state.step + 1 == number:
                action()
            return inner(*arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    object.__setattr__(run, "stepper", Stepper())
    return run


def fail() -> None:
    raise ZeroDivisionError


def assert_same_files(run_folder: Path, expected: Path) -> None:
    """See that rows, TensorBoard's scalars and all checkpoints are the same, to the last bit."""
    assert_same_run(run_folder, expected)
    names = sorted(path.name for path in (expected / "checkpoints").glob("*.pt"))
    assert sorted(path.name for path in (run_folder / "checkpoints").glob("*.pt")) == names
    for name in names:
        contents = [load_checkpoint(run / "checkpoints" / name) for run in (run_folder, expected)]
        for key in STATE:
            torch.testing.assert_close(contents[0][key], contents[1][key], rtol=0, atol=0, msg=f"{name} {key}")


def test_a_run_is_the_one_that_scores_at_once(folder: Path, tmp_path: Path) -> None:
    beside = run_whole(folder, BACKGROUND, f"output_dir={tmp_path}/run")
    assert [row["step"] for row in read_rows(beside, "eval")] == [2, 4, 6]
    assert_same_files(beside, folder / "at_once")


@pytest.mark.slow
@pytest.mark.usefixtures("_late_scores", "_rising_and_falling_scores")
def test_the_best_is_the_run_as_it_was_evaluated_however_late_its_score(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_once = run_whole(folder, f"output_dir={tmp_path}/at_once")
    capsys.readouterr()
    beside = run_whole(folder, BACKGROUND, f"output_dir={tmp_path}/beside")
    printed = capsys.readouterr().out
    assert printed.index("step 3/6 epoch") < printed.index("step 2/6 eval") < printed.index("step 4/6 epoch")
    best = load_checkpoint(beside / "checkpoints/best.pt")
    assert (best["step"], best["best"]) == (4, {"ap": 0.3, "step": 4})
    assert_same_files(beside, at_once)


@pytest.mark.slow
@pytest.mark.usefixtures("_late_scores")
def test_a_kill_between_an_evaluation_and_its_score_loses_nothing(folder: Path, tmp_path: Path) -> None:
    run, killed = build(folder, BACKGROUND, f"output_dir={tmp_path}/run"), tmp_path / "killed"

    def kill() -> None:
        shutil.copytree(run.output_dir, killed)  # what a kill would leave on the disk
        fail()

    before_step(run, 6, kill)
    with run.recorder, pytest.raises(ZeroDivisionError):
        train_loop(run)
    rows = [(row["kind"], row["step"]) for row in read_rows(killed)]
    assert rows == [("train", 1), ("train", 2), ("eval", 2), ("train", 3), ("train", 4)]
    assert load_checkpoint(killed / "checkpoints/last.pt")["step"] == 3
    run_whole(folder, BACKGROUND, f"output_dir={killed}", resume="auto")
    assert_same_files(killed, folder / "at_once")


@pytest.mark.slow
@pytest.mark.usefixtures("_late_scores")
def test_a_request_to_stop_waits_for_the_score(folder: Path, tmp_path: Path) -> None:
    run = build(folder, BACKGROUND, f"output_dir={tmp_path}/run")
    before_step(run, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with StopRequest() as stop, run.recorder, pytest.raises(StoppedEarly, match="SIGTERM after step 5"):
        train_loop(run, stop)
    assert [row["step"] for row in read_rows(run.output_dir, "eval")] == [2, 4]
    content = load_checkpoint(run.output_dir / "checkpoints/last.pt")
    assert (content["step"], content["evaluation_due"]) == (5, False)
    run_whole(folder, BACKGROUND, f"output_dir={tmp_path}/run", resume="auto")
    assert_same_run(run.output_dir, folder / "at_once")


def test_an_error_in_the_scoring_ends_the_run_with_it_and_loses_no_row(folder: Path, tmp_path: Path) -> None:
    run = build(folder, BACKGROUND, f"output_dir={tmp_path}/run")
    dataset = run.evaluator.ground_truth.dataset
    run.evaluator.ground_truth = to_coco(dataset | {"images": dataset["images"][:1], "annotations": []})
    with run.recorder, pytest.raises(UserError, match=r"image id 101 has detections, but .* no such image") as raised:
        train_loop(run)
    assert "in the process that scores beside training:\nTraceback" in raised.value.__notes__[0]
    rows = [(row["kind"], row["step"]) for row in read_rows(run.output_dir)]
    assert rows[:2] == [("train", 1), ("train", 2)]
    assert {kind for kind, _ in rows} == {"train"}
    assert not (run.output_dir / "checkpoints").exists()


@pytest.mark.usefixtures("_late_scores")
def test_an_error_in_training_leaves_the_evaluation_before_it_recorded_and_saved(folder: Path, tmp_path: Path) -> None:
    run = before_step(build(folder, BACKGROUND, f"output_dir={tmp_path}/run"), 3, fail)
    with run.recorder, pytest.raises(ZeroDivisionError):
        train_loop(run)
    assert [row["kind"] for row in read_rows(run.output_dir)] == ["train", "train", "eval"]
    assert load_checkpoint(run.output_dir / "checkpoints/best.pt")["step"] == 2


GROUND_TRUTH = {
    "images": [{"id": 1, "width": 9, "height": 9}],
    "categories": [{"id": 5, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}],
}
RESULTS = CocoResults.from_entries([{"image_id": 1, "category_id": 5, "bbox": [0, 0, 4, 4], "score": 0.5}])


def test_signals_to_all_processes_are_left_to_training() -> None:
    ground_truth = to_coco(GROUND_TRUTH)
    with closing(BackgroundScorer(ground_truth, "pycocotools")) as scorer:
        assert scorer._process.pid is not None
        for number in StopRequest.SIGNALS:
            os.kill(scorer._process.pid, number)
        scorer.begin(RESULTS)
        scores = scorer.finish()
    assert scores == score(ground_truth, RESULTS, scorer="pycocotools")
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scorer._process.exitcode == 0


def test_so_they_are_where_it_is_the_first_process_of_a_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # before its first process multiprocessing starts one of its own
    script.write_text(f"""
import os
from detector.engine.background_scorer import BackgroundScorer
from detector.engine.stop import StopRequest
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
scorer = BackgroundScorer(to_coco({GROUND_TRUTH}), "pycocotools")
for number in StopRequest.SIGNALS:
    os.kill(scorer._process.pid, number)
scorer.begin(CocoResults.from_entries([]))
scorer.finish()
scorer.close()
""")
    subprocess.run([sys.executable, str(script)], env={"PYTHONPATH": str(ROOT)}, check=True, timeout=60)


def test_a_scoring_process_that_is_killed_is_named() -> None:
    with closing(BackgroundScorer(to_coco(GROUND_TRUTH), "pycocotools")) as scorer:
        scorer._process.kill()
        scorer._process.join()
        for call in (lambda: scorer.begin(RESULTS), scorer.finish):
            with pytest.raises(ResourceError, match=r"training has ended \(exit code -9; .*eval\.background=false"):
                call()


def command_line(pid: str) -> bytes:
    """Return what a process was started with; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_the_scoring_process_ends_with_training_and_does_not_begin_it_anew(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # does not ask for its __name__
    script.write_text(f"""
import os, signal
from detector.engine.background_scorer import BackgroundScorer
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
print("begun", flush=True)
scorer = BackgroundScorer(to_coco({GROUND_TRUTH}), "pycocotools")
scorer.begin(CocoResults.from_entries([]))
scorer.finish()
print(scorer._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    result = subprocess.run(
        [sys.executable, str(script)], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == -signal.SIGKILL
    begun, pid = result.stdout.splitlines()
    assert begun == "begun"  # once
    deadline = time.monotonic() + 30
    while command_line(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_program_ends_that_still_holds_a_scoring_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # Python waits at its end for the processes that are left
    script.write_text(f"""
from detector.engine.background_scorer import BackgroundScorer
from detector.evaluation.ground_truth import to_coco
scorer = BackgroundScorer(to_coco({GROUND_TRUTH}), "pycocotools")
""")
    subprocess.run([sys.executable, str(script)], env={"PYTHONPATH": str(ROOT)}, check=True, timeout=60)


@pytest.mark.slow
def test_several_processes_make_the_same_run(tmp_path: Path, ranks: Ranks) -> None:
    recipe = write_config(tmp_path, make_dataset(tmp_path / "data"))
    at_once, beside = tmp_path / "at_once", tmp_path / "beside"
    line = ["--config", str(recipe), *SCHEDULE]
    codes = ranks.run([
        Launch(2, [*line, f"output_dir={at_once}"]), Launch(2, [*line, f"output_dir={beside}", BACKGROUND])
    ])  # fmt: skip
    assert codes == [[0, 0], [0, 0]]
    assert_same_files(beside, at_once)
