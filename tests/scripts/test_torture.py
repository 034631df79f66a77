"""The short form of the torture: runs are killed, stopped, starved and damaged, and end as the one left alone."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torture_trials
from torture_trials import has_lost_the_best, resize_disk

from detector.engine.checkpoint_files import save_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_runs_that_are_hurt_end_as_the_run_that_is_left_alone(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/torture.py"), "--short", "--folder", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in result.stdout.splitlines() if "| " in line
    ]
    table = {tuple(row[:2]): row[2:] for row in rows if row[-1].isdecimal() and "min:" not in row[0]}
    assert len(table) == 8  # 4 trials, 4 kinds of mutated files
    assert all(trials == right != "0" for trials, right in table.values())
    assert table["SIGKILL while a checkpoint is written", "1"] == ["1", "1"]
    assert table["SIGKILL under torchrun --max-restarts", "2"] == ["1", "1"]
    assert list(tmp_path.iterdir()) == []  # nothing is left where nothing went wrong


@pytest.mark.parametrize("refusals", [2, 3])
def test_a_disk_that_a_run_fills_meanwhile_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    used, sizes = iter([100, 200, 300]), []

    def mount(folder: Path, options: str) -> None:
        sizes.append(options)
        if len(sizes) <= refusals:
            raise subprocess.CalledProcessError(32, "mount")

    monkeypatch.setattr(torture_trials.shutil, "disk_usage", lambda folder: SimpleNamespace(used=next(used)))
    monkeypatch.setattr(torture_trials, "_mount", mount)
    with pytest.raises(subprocess.CalledProcessError) if refusals == 3 else nullcontext():
        resize_disk(tmp_path, 7)
    assert sizes == ["remount,size=107", "remount,size=207", "remount,size=307"]


ROWS = "rows: 10 shared rows are the same"
STATE = "final state: after step 8, {} weights and other values differ, by up to {}: {}"


@pytest.mark.parametrize(
    ("rows", "state", "printed", "is_right"),
    [
        (ROWS, STATE.format("2 of 682", 0, "best.ap, best.step"), "step-00000004.pt: the checkpoint cannot be", True),
        (ROWS, STATE.format("2 of 682", 0, "best.ap, best.step"), "step 4 is not saved, as the rows", True),
        (ROWS, STATE.format("2 of 682", 0, "best.ap, best.step"), "step-00000006.pt: the checkpoint cannot be", False),
        (ROWS, STATE.format("2 of 682", 0, "best.ap, best.step"), "", False),
        (ROWS, STATE.format("1 of 682", 0.1, "model.w"), "step 4 is not saved", False),
        (ROWS, STATE.format("3 of 682", 0.1, "best.ap, best.step, model.w"), "step 4 is not saved", False),
        (
            ROWS + "; only in A: train 3",
            STATE.format("2 of 682", 0, "best.ap, best.step"),
            "step 4 is not saved",
            False,
        ),
    ],
)
def test_another_best_is_right_only_where_the_best_found_no_room_and_nothing_else_differs(
    tmp_path: Path, rows: str, state: str, printed: str, is_right: bool
) -> None:
    content = {"step": 8, "best": {"ap": 0.1, "step": 4}}
    save_checkpoint(tmp_path / "run/checkpoints", content, step=8, is_best=False, keep=1)
    (tmp_path / "output.log").write_text(f"warning: run/checkpoints/{printed} written\n")
    reference = SimpleNamespace(folder=tmp_path)
    assert has_lost_the_best(reference, tmp_path, [rows, state]) is is_right  # type: ignore[arg-type]
