"""Training runs that can be killed: started, watched, hurt, and compared with a run that was left alone.

A run is the command ``train`` in processes of its own, forked from this one after the libraries are imported: it starts
in a fraction of a second, and can be killed at any moment of its life. What ``torchrun`` would do is done here: each
process gets its rank, and where one ends badly the others are ended too.
"""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TIMEOUT: Final = 600.0
"""Seconds after which a run counts as hung."""

GRACE: Final = 30.0
"""Seconds between torchrun's SIGTERM and its SIGKILL."""


@dataclass(frozen=True)
class Setup:
    """What all runs have in common.

    Attributes:
        arguments: of ``train``, without ``--resume``; the run folder is ``run`` in the folder that a run is started in.
        num_processes: of the run.
        num_steps: of the run.
    """

    arguments: Sequence[str]
    num_processes: int
    num_steps: int


class StartedRun:
    """A run whose processes live.

    Args:
        setup: what to run.
        folder: working directory; its ``output.log`` gets what the run prints.
    """

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "output.log"
        self.log.touch()
        self._log_start = self.log.stat().st_size
        port = _free_port() if setup.num_processes > 1 else 0
        self.codes: dict[int, int] = {}
        attempt = Path(tempfile.mkdtemp(prefix="attempt-", dir=folder))  # where processes agree on who prints an error
        self.pids = [_fork(setup, rank, port, attempt, self.log) for rank in range(setup.num_processes)]

    def is_running(self) -> bool:
        """Tell whether a process lives."""
        for pid in self.pids:
            if pid not in self.codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return len(self.codes) < len(self.pids)

    def send(self, number: signal.Signals, ranks: Sequence[int] | None = None) -> None:
        """Send a signal to some or all processes that live."""
        for rank in range(len(self.pids)) if ranks is None else ranks:
            if self.pids[rank] not in self.codes:
                os.kill(self.pids[rank], number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the end, and return the exit code: of the first process that did not end with 0, if any.

        Raises:
            TimeoutError: the run does not end; it is killed.
        """
        deadline, is_ending = time.monotonic() + timeout, False
        while self.is_running():
            if any(self.codes.values()) and not is_ending:
                self.send(signal.SIGTERM)  # as torchrun does where a process has ended with anything but 0
                deadline, is_ending = time.monotonic() + GRACE, True
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                if not is_ending:
                    raise TimeoutError(f"{self.folder}: the run did not end within {timeout:.0f} s; see {self.log}")
            time.sleep(0.02)
        return next((code for code in self.codes.values() if code), 0)

    def has_begun(self) -> bool:
        """Tell whether every process takes SIGTERM for a request to stop."""
        return self.is_running() and all(_catches(pid, signal.SIGTERM) for pid in self.pids)

    def kill(self, ranks: Sequence[int] | None = None) -> None:
        """Kill some or all processes, and then, a moment later, those that are left."""
        self.send(signal.SIGKILL, ranks)
        time.sleep(0.2)
        self.send(signal.SIGKILL)
        self.wait()

    def printed(self) -> str:
        """Return what this run has printed so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", errors="replace")


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, its data workers among them."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(number) for number in task.read_text().split()]
        except OSError:
            continue  # the thread has ended meanwhile
    return found


def differences(reference: Path, run: Path) -> list[str]:
    """Say in what a finished run differs from another one, apart from times: nothing if it is the same, bit for bit.

    Compared are the state in the last checkpoint (weights, averages, optimiser, best AP ...) and the rows of
    ``metrics.jsonl``, each once. Warnings are left out: they tell what was done to a run.
    """
    from detector.engine.compare_runs import compare_runs

    comparison = compare_runs(reference / "run", run / "run", with_warnings=False)
    decisive = [line for line in comparison.text.splitlines() if line.startswith(("rows:", "final state:"))]
    return [] if comparison.is_same else decisive


def _fork(setup: Setup, rank: int, port: int, attempt: Path, log: Path) -> int:
    """Start one process of a run and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(attempt.parent)
        if setup.num_processes > 1:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": setup.num_processes, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in names.items()})
            os.environ.update({"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "none"})
            os.environ["TORCHELASTIC_ERROR_FILE"] = str(attempt / str(rank) / "error.json")
        from detector.cli.train import main

        code = main([*setup.arguments, f"schedule.max_steps={setup.num_steps}", "output_dir=run", "--resume"])
        sys.stdout.flush()
    finally:
        os._exit(code)  # not through what the parent process has open


def _catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler of its own for a signal."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
