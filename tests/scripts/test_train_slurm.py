"""``scripts/train_slurm.sbatch`` with stand-ins for the commands of SLURM and for torchrun."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/train_slurm.sbatch"

COMMANDS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; else echo "$@" >> "$OUT/scontrol"; fi',
    "srun": 'shift; exec "$@"',  # without --kill-on-bad-exit
    "torchrun": 'trap \'touch "$OUT/saved"; exit 1\' TERM; echo "$@" > "$OUT/torchrun"; '
    'for _ in $(seq "${TENTHS:-0}"); do sleep 0.1; done; exit "${CODE:-0}"',
}


def start(folder: Path, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
    """Start the job; what it prints goes to the file ``printed``."""
    (folder / "bin").mkdir()
    for name, body in COMMANDS.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o700)
    slurm = {"JOB_NODELIST": "node[7-8]", "GPUS_ON_NODE": "4", "CPUS_PER_TASK": "32", "NNODES": "2", "JOB_ID": "99"}
    variables = {f"SLURM_{name}": value for name, value in slurm.items()} | environment
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with (folder / "printed").open("wb") as printed:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            env=os.environ | variables | {"PATH": path, "OUT": str(folder)},
            stdout=printed,
        )


def test_every_machine_gets_one_torchrun_that_starts_or_continues_the_run(tmp_path: Path) -> None:
    assert start(tmp_path, "--config", "c.yaml", "seed=3").wait(30) == 0
    line = (tmp_path / "torchrun").read_text().split()
    options, command = line[: line.index("tools/train.py")], line[line.index("tools/train.py") :]
    assert command == ["tools/train.py", "--config", "c.yaml", "seed=3", "--resume", "data.num_workers=7"]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--nnodes": "2", "--nproc-per-node": "4", "--rdzv-id": "99", "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node7:29500",
    }  # fmt: skip
    assert not (tmp_path / "scontrol").exists()


@pytest.mark.parametrize("code", ["1", "2"])
def test_a_run_that_ends_with_an_error_is_not_queued_again(tmp_path: Path, code: str) -> None:
    assert start(tmp_path, CODE=code).wait(30) == int(code)
    assert not (tmp_path / "scontrol").exists()


def test_near_the_time_limit_the_run_saves_and_the_job_is_queued_again(tmp_path: Path) -> None:
    job = start(tmp_path, TENTHS="200")
    while not (tmp_path / "torchrun").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "scontrol").read_text() == "requeue 99\n"
    assert "goes back into the queue" in (tmp_path / "printed").read_text()
