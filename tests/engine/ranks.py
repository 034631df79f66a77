"""Runs of several processes without a launcher: forked from one that has imported everything, so that they start fast.

The fixture ``ranks`` holds that one for all tests: importing takes it some seconds.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
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


class Ranks:
    """Does launches, in processes forked from one that stays ready. Leave it by :meth:`close`."""

    TIMEOUT = 550.0
    """Seconds for the launches of one call."""

    def __init__(self) -> None:
        self._ready = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.ranks"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that close() reaches all that it has started
        )

    def run(self, launches: list[Launch]) -> list[list[int]]:
        """Do the launches in order; return the exit codes of each, negative for a signal.

        What the processes print comes out here when all is done.
        """
        requests, answers = self._ready.stdin, self._ready.stdout
        assert requests is not None
        assert answers is not None
        with tempfile.TemporaryDirectory() as folder:
            requests.write(json.dumps({"folder": folder, "launches": [asdict(launch) for launch in launches]}) + "\n")
            requests.flush()
            has_answered, _, _ = select.select([answers], [], [], self.TIMEOUT)
            for name, stream in (("out", sys.stdout), ("err", sys.stderr)):
                if (file := Path(folder) / name).exists():
                    stream.write(file.read_text())
        assert has_answered, f"the launches did not end within {self.TIMEOUT:.0f} s"
        answer = answers.readline()
        assert answer, "the process that launches are forked from has ended; its error is in the captured output"
        codes: list[list[int]] = json.loads(answer)
        return codes

    def close(self) -> None:
        """End the process, and what has been left of launches."""
        with self._ready, contextlib.suppress(ProcessLookupError):
            os.killpg(self._ready.pid, signal.SIGKILL)


def _serve() -> None:
    """Do what is asked for, a line of JSON a time, until there is no one to ask."""
    for heavy in ("detector.engine.train", "albumentations", "torch.utils.tensorboard"):
        importlib.import_module(heavy)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps([_launch(Launch(**it), Path(request["folder"])) for it in request["launches"]]), flush=True)


def _launch(launch: Launch, folder: Path) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = [_fork(launch, rank, port, folder) for rank in range(launch.num_ranks)]
    for step, number, targets in (
        (launch.kill_at, signal.SIGKILL, pids),
        (launch.stop_at, signal.SIGTERM, pids[-1:]),
    ):
        if step:
            _wait_for_step(Path(launch.run_folder) / "metrics.jsonl", step)
            for pid in targets:
                os.kill(pid, number)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def _fork(launch: Launch, rank: int, port: int, folder: Path) -> int:
    """Start one process, which prints to files of the folder, and return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
            with (folder / name).open("ab") as file:
                os.dup2(file.fileno(), stream.fileno())
        if launch.num_ranks > 1:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(launch.num_ranks), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        from detector.cli.train import main

        code = main(launch.argv)
        sys.stdout.flush()
    finally:
        os._exit(code)  # not through what the process that stays ready has open


def _wait_for_step(metrics: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if metrics.exists() and f'"step": {step},' in metrics.read_text(encoding="utf-8"):
            return
        time.sleep(0.002)
    raise TimeoutError(f"{metrics}: step {step} has not come")


if __name__ == "__main__":
    _serve()
