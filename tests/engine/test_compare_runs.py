import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detector.cli.compare_runs import main as compare
from detector.config_io import dump_config
from detector.engine.checkpoint import load_checkpoint
from detector.engine.checkpoint_files import save_checkpoint
from detector.engine.compare_runs import compare_runs
from tests.engine.tiny import tiny_config


def write_run(
    folder: Path, data: Path, *overrides: str, losses: tuple[float, ...] = (3.0, 2.0, 1.0), weight: float = 0.5
) -> Path:
    """Write a run folder as training leaves it, with a row for each loss."""
    config, _ = tiny_config(data, *overrides)
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11", "packages": {"torch": "2.14"}}))
    rows: list[dict[str, Any]] = [
        {"kind": "train", "step": step, "loss": loss, "step_seconds": loss / 7 + hash(str(folder)) % 5}
        for step, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {"step": len(losses), "model": {"w": torch.tensor([1.0, weight])}, "ema": None}
    save_checkpoint(folder / "checkpoints", content, step=len(losses), is_best=False, keep=1)
    return folder


def test_the_same_runs_are_the_same_whatever_their_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", tmp_path)
    other = write_run(tmp_path / "other", tmp_path, "output_dir=somewhere")
    assert compare([str(one), str(other)]) == 0
    assert (
        "rows: 3 shared rows are the same\nfinal state: after step 3, 2 weights and other values are the same"
        in capsys.readouterr().out
    )


def test_the_first_step_that_differs_is_named_with_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_run(tmp_path / "one", tmp_path)
    other = write_run(tmp_path / "other", tmp_path, "seed=3", losses=(3.0, 2.5, 1.5), weight=0.25)
    assert compare([str(one), str(other)]) == 1
    printed = capsys.readouterr().out
    assert "config: 1 values differ\n  seed 0 -> 3\n" in printed
    assert "rows: differ from step 2 on (train row): loss 2.0 -> 2.5\n" in printed
    assert "final state: after step 3, 1 of 2 weights and other values differ, by up to 0.25: model.w" in printed


def test_a_run_that_is_longer_is_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", tmp_path)
    other = write_run(tmp_path / "other", tmp_path, losses=(3.0, 2.0))
    assert compare([str(one), str(other)]) == 1
    printed = capsys.readouterr().out
    assert "rows: 2 shared rows are the same; only in A: train 3\n" in printed
    assert "final state: after step 3 -> 2" in printed


def test_weights_alone_make_a_difference(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path, weight=0.75)
    assert compare([str(one), str(other)]) == 1


def test_momentum_alone_makes_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path)
    path = other / "checkpoints/last.pt"
    content = load_checkpoint(path) | {"optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}}}
    save_checkpoint(path.parent, content, step=3, is_best=False, keep=1)
    assert compare([str(one), str(other)]) == 1
    assert "differ, by up to 0: optimizer.state.0.momentum_buffer\n" in capsys.readouterr().out


def test_a_row_that_is_there_twice_makes_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path)
    metrics = other / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + metrics.read_text().splitlines(keepends=True)[-1])
    assert compare([str(one), str(other)]) == 1
    assert "rows: more than once in B: train 3\n" in capsys.readouterr().out


def test_warnings_can_be_left_out(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path)
    with (other / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "warning", "step": 2, "name": "checkpoint", "text": "the disk is full"}\n')
    assert compare([str(one), str(other)]) == 1
    assert compare_runs(one, other, with_warnings=False).is_same


def test_another_environment_is_named_but_is_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path)
    (other / "environment.json").write_text(json.dumps({"python": "3.12", "packages": {"numpy": "2.0"}}))
    assert compare([str(one), str(other)]) == 0
    printed = capsys.readouterr().out
    assert "  python: 3.11 -> 3.12\n  torch: 2.14 -> None\n  numpy: None -> 2.0\n" in printed


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", tmp_path)
    assert compare([str(one), str(tmp_path / "none")]) == 2
    assert f"{tmp_path}/none: no run folder, there is no metrics.jsonl in it" in capsys.readouterr().err
    (one / "metrics.jsonl").write_text('{"kind": "train"}\n{"kind": "train", "step": 1}\n')
    assert compare([str(one), str(one)]) == 2
    assert "metrics.jsonl:1: not a row of a run" in capsys.readouterr().err


def test_a_warning_about_waiting_for_data_is_no_difference(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one", tmp_path), write_run(tmp_path / "other", tmp_path)
    with (other / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "warning", "step": 3, "name": "data_wait", "text": "40 % is waiting"}) + "\n")
    assert compare_runs(one, other).is_same
