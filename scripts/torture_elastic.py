"""A run under the real ``torchrun``, which starts its processes again where one of them is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from torture_runs import TIMEOUT, children_of, differences
from torture_trials import Reference, Tally

ROOT = Path(__file__).resolve().parents[1]


def kill_under_torchrun(reference: Reference, count: int) -> Tally:
    """Kill a process of a run ``count`` times; nobody but ``torchrun --max-restarts`` continues it."""
    num_processes = reference.setup.num_processes
    steps_between = reference.setup.num_steps // (count + 1)
    tally = Tally("SIGKILL under torchrun --max-restarts", num_processes, num_trials=count)
    with reference.trial_folder() as folder, (folder / "output.log").open("wb") as log:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--max-restarts", str(count)]
        program = [f"--nproc-per-node={num_processes}", str(ROOT / "tools/train.py"), *reference.setup.arguments]
        program.append(f"schedule.max_steps={reference.setup.num_steps}")
        command = [sys.executable, *launcher, *program, "output_dir=run", "--resume"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment) as torchrun:
            num_kills = 0
            while torchrun.poll() is None and num_kills < count:
                time.sleep(0.05)
                ranks = children_of(torchrun.pid)
                if ranks and _steps(folder) >= steps_between * (num_kills + 1):
                    with contextlib.suppress(ProcessLookupError):  # it has come to its end
                        os.kill(ranks[num_kills % len(ranks)], signal.SIGKILL)
                        num_kills += 1
            code = torchrun.wait(TIMEOUT)
        printed = (folder / "output.log").read_text(errors="replace")
        if code != 0 or num_kills != count:
            tally.problems = [f"torchrun ended with {code} after {num_kills} kills: {printed[-1000:]}"]
        else:
            tally.problems = differences(reference.folder, folder)
    tally.num_right = 0 if tally.problems else count
    return tally


def _steps(folder: Path) -> int:
    """Return how many steps a run has logged."""
    metrics = folder / "run/metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count('"kind": "train"') if metrics.exists() else 0
