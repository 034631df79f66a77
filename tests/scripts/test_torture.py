"""The short form of the torture: runs are killed, stopped, starved and damaged, and end as the one left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    assert len(table) == 9  # 5 trials, 4 kinds of mutated files
    assert all(trials == right != "0" for trials, right in table.values())
    assert table["SIGKILL while a checkpoint is written", "1"] == ["1", "1"]
    assert table["SIGKILL under torchrun --max-restarts", "2"] == ["1", "1"]
    assert table["control: another seed is found to differ", "1"] == ["1", "1"]
    assert list(tmp_path.iterdir()) == []  # nothing is left where nothing went wrong
