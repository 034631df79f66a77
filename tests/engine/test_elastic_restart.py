"""Processes that torchrun starts again after one has died meet again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os
import torch
from detector.engine.processes import join_processes, processes_from_environment
processes = processes_from_environment()
join_processes(processes, torch.device("cpu"))
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
if attempt == "0" and processes.rank == 1:
    os._exit(9)
processes.any(False)
print(f"joined in attempt {attempt}", flush=True)
processes.close()
"""


@pytest.mark.slow
def test_processes_that_are_started_again_do_not_wait_for_those_that_are_gone(tmp_path: Path) -> None:
    script = tmp_path / "join.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    result = subprocess.run(
        [*launcher, str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("joined in attempt 1") == 2
