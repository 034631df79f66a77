"""Two processes under torchrun do what one does: real command lines on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detector.cli.evaluate import main as evaluate
from detector.cli.train import main as train
from detector.engine.evaluate import evaluate_checkpoint
from tests.engine.ranks import Launch, Ranks
from tests.engine.tiny import make_dataset, read_rows, write_config

ROOT = Path(__file__).parents[2]
LOSSES = ("loss", "loss_cls", "loss_box", "loss_cls_fg", "loss_cls_bg")
COUNTS = ("num_foreground", "num_background", "num_ignored", "num_gt", "num_unmatched_gt", "class_num_gt")
SPLIT = ("level_", "class_", "p_", "normalizer")


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``tools/train.py`` in two processes of one thread each."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return subprocess.run(
        [*launcher, str(ROOT / "tools/train.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_config(tmp_path, make_dataset(tmp_path / "data"))


@pytest.mark.slow
def test_two_processes_log_the_losses_and_the_ap_of_one(recipe: Path, tmp_path: Path) -> None:
    line = ["--config", str(recipe), "schedule.max_steps=6", "eval.every=6", "eval.score_thresh=0.005"]
    line += ["optimizer.clip_grad_norm=1.0", "ema.decay=0.5"]
    assert train([*line, f"output_dir={tmp_path}/one"]) == 0
    # 2 processes x 2 micro-batches x 1 image: gradients are exchanged with the last micro-batch only.
    result = torchrun(*line, "data.images_per_forward=1", f"output_dir={tmp_path}/two", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("step 6/6 epoch") == 1
    one, two = (read_rows(tmp_path / name, "train") for name in ("one", "two"))
    assert [row["step"] for row in two] == [1, 2, 3, 4, 5, 6]
    for row, other in zip(one, two, strict=True):
        assert {key: other[key] for key in COUNTS} == {key: row[key] for key in COUNTS}
        for key in (*LOSSES, "grad_norm", "lr", *(name for name in row if name.startswith(SPLIT))):
            assert other[key] == pytest.approx(row[key], rel=2e-4), (row["step"], key)
    (score,), (other_score,) = (read_rows(tmp_path / name, "eval") for name in ("one", "two"))
    for key in LOSSES:
        assert other_score[key] == pytest.approx(score[key], rel=2e-4)
    # The weights differ in their last bits, so the AP is compared on the same weights: one process scores what two did.
    assert score["AR100"] > 0
    metrics = tmp_path / "metrics.json"
    checkpoint = tmp_path / "two/checkpoints/last.pt"
    assert evaluate(["--checkpoint", str(checkpoint), "--metrics-out", str(metrics)]) == 0
    expected = json.loads(metrics.read_text())
    assert {key: other_score[key] for key in expected} == expected
    # One process continues what two began.
    assert train([*line, f"output_dir={tmp_path}/two", "--resume", "schedule.max_steps=7"]) == 0
    assert [row["step"] for row in read_rows(tmp_path / "two", "train")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.slow
def test_trained_batch_statistics_are_those_of_the_checkpoint_in_every_process(
    recipe: Path, tmp_path: Path, ranks: Ranks
) -> None:
    line = ["--config", str(recipe), "model.backbone.norm=batch", "optimizer.lr=0.05", "schedule.warmup_steps=0"]
    assert ranks.run([Launch(2, line)]) == [[0, 0]]
    (row,) = read_rows(tmp_path / "run", "eval")
    losses = evaluate_checkpoint(tmp_path / "run/checkpoints/last.pt").losses
    assert {key: row[key] for key in losses} == pytest.approx(losses, rel=1e-5)


@pytest.mark.slow
def test_an_error_that_the_main_process_meets_ends_all_and_is_printed_once(recipe: Path, tmp_path: Path) -> None:
    result = torchrun("--config", str(recipe), "output_dir=.", cwd=tmp_path)
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: output_dir: . is not empty")
    assert "exitcode  : 2" in result.stderr  # torchrun's own report
    assert "SIGKILL" not in result.stderr, "a process waited for the one that had ended"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_error_that_all_processes_meet_is_printed_once(
    recipe: Path, tmp_path: Path, ranks: Ranks, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ranks.run([Launch(2, ["--config", str(recipe), "data.batch_size=1"])]) == [[2, 2]]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: data.batch_size: 1 images cannot be shared equally by 2 processes")
    assert not (tmp_path / "run").exists()


def test_batch_norm_is_synchronised_between_gpus_only(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert train(["--config", str(recipe), "model.backbone.norm=sync"]) == 2
    assert "model.backbone.norm: sync works on GPUs, and these 2 processes run on cpu" in capsys.readouterr().err
