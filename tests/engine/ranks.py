"""Runs of several processes without a launcher: forked from one that has imported everything, so that they start fast.

As a script: ``python -m tests.engine.ranks PLAN``, where PLAN is the JSON of a list of :class:`Launch`, done in order.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Launch:
    """A training command in some processes.

    Attributes:
        num_ranks: processes, which meet over gloo; with 1 the process is alone.
        argv: arguments of ``detector train``.
        kill_at: SIGKILL all of them once this step is in ``metrics.jsonl`` of ``run_folder``; 0 = never.
        stop_at: send SIGTERM to rank 1 alone (rank 0, if it is alone) then; 0 = never.
        run_folder: that folder.
    """

    num_ranks: int
    argv: list[str] = field(default_factory=list)
    kill_at: int = 0
    stop_at: int = 0
    run_folder: str = ""


def run_launches(launches: list[Launch]) -> list[list[int]]:
    """Do the launches in a process of their own; return the exit codes of each, negative for a signal."""
    plan = json.dumps([asdict(launch) for launch in launches])
    result = subprocess.run(
        [sys.executable, "-m", "tests.engine.ranks", plan],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert result.returncode == 0, result.stderr
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    codes: list[list[int]] = json.loads(result.stdout.splitlines()[-1])
    return codes


def _launch(launch: Launch) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = [_fork(launch, rank, port) for rank in range(launch.num_ranks)]
    for step, number, targets in (
        (launch.kill_at, signal.SIGKILL, pids),
        (launch.stop_at, signal.SIGTERM, pids[-1:]),
    ):
        if step:
            _wait_for_step(Path(launch.run_folder) / "metrics.jsonl", step)
            for pid in targets:
                os.kill(pid, number)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _fork(launch: Launch, rank: int, port: int) -> int:
    from detector.cli.train import main

    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        if launch.num_ranks > 1:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(launch.num_ranks), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        code = main(launch.argv)
        sys.stdout.flush()
        os._exit(code)
    return pid


def _wait_for_step(metrics: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if metrics.exists() and f'"step": {step},' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.002)
    raise TimeoutError(f"{metrics}: step {step} has not come")


if __name__ == "__main__":
    for heavy in ("detector.engine.train", "albumentations", "torch.utils.tensorboard"):
        importlib.import_module(heavy)
    print(json.dumps([_launch(Launch(**launch)) for launch in json.loads(sys.argv[1])]))
