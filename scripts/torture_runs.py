"""Training runs that can be killed: started, watched, hurt, and compared with a run that was left alone.

A run is the command ``train`` in processes of its own, forked from this one after the libraries are imported: it starts
in a fraction of a second, and can be killed at any moment of its life. What ``torchrun`` would do is done here: each
process gets its rank, and where one ends badly the others are ended too.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TIMEOUT: Final = 600.0
"""Seconds after which a run counts as hung."""


@dataclass(frozen=True)
class Setup:
    """What all runs have in common.

    Attributes:
        arguments: of ``train``, without ``--resume``; the run folder is ``run`` in the folder that a run is started in.
        num_processes: of the run.
    """

    arguments: Sequence[str]
    num_processes: int


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
        self.pids = [_fork(setup, rank, port, folder, self.log) for rank in range(setup.num_processes)]

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
        deadline = time.monotonic() + timeout
        while self.is_running():
            if any(code not in (0, 75) for code in self.codes.values()):
                deadline = min(deadline, time.monotonic() + 15.0)
                self.send(signal.SIGTERM)  # as torchrun does where one process has ended badly
                if time.monotonic() > deadline - 5.0:
                    self.send(signal.SIGKILL)
            elif time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"{self.folder}: the run did not end within {timeout:.0f} s; see {self.log}")
            time.sleep(0.02)
        return next((code for code in self.codes.values() if code), 0)

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

    Compared are the whole of the last checkpoint (weights, averages, optimiser, schedule, best AP ...) and the rows of
    ``metrics.jsonl``, their order and number included. Warnings that only the run that was hurt has are no rows of the
    training, and left out.
    """
    from detector.engine.checkpoint import load_checkpoint

    last = "run/checkpoints/last.pt"
    found = _differing(load_checkpoint(reference / last), load_checkpoint(run / last), "last.pt")
    rows, expected = _rows(run), _rows(reference)
    if len(rows) != len(expected):
        found.append(f"metrics.jsonl: {len(rows)} rows in place of {len(expected)}")
    for row, other in zip(rows, expected, strict=False):
        if row != other:
            names = [name for name in {*row, *other} if row.get(name) != other.get(name)]
            found.append(f"metrics.jsonl: {other['kind']} row of step {other['step']}: {', '.join(sorted(names))}")
    return found


def _rows(folder: Path) -> list[dict[str, Any]]:
    import json

    lines = (folder / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = {"data_seconds", "step_seconds", "images_per_second"}
    rows = [{name: value for name, value in json.loads(line).items() if name not in timed} for line in lines]
    return [row for row in rows if row["kind"] != "warning"]


def _differing(expected: Any, found: Any, name: str) -> list[str]:
    from torch import Tensor, equal

    if type(expected) is not type(found):
        return [f"{name}: {type(found).__name__} in place of {type(expected).__name__}"]
    if isinstance(expected, Tensor):
        same = expected.shape == found.shape and expected.dtype == found.dtype and equal(expected, found)
        return [] if same else [name]
    if isinstance(expected, dict):
        keys = [f"{name}.{key}" for key in expected.keys() ^ found.keys()]
        return keys + [
            line for key in expected if key in found for line in _differing(expected[key], found[key], f"{name}.{key}")
        ]
    if isinstance(expected, list | tuple):
        if len(expected) != len(found):
            return [f"{name}: {len(found)} entries in place of {len(expected)}"]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for idx, (one, other) in pairs for line in _differing(one, other, f"{name}[{idx}]")]
    return [] if expected == found else [name]


def _fork(setup: Setup, rank: int, port: int, folder: Path, log: Path) -> int:
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
        os.chdir(folder)
        if setup.num_processes > 1:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": setup.num_processes, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"})
        from detector.cli.train import main

        code = main([*setup.arguments, "output_dir=run", "--resume"])
        sys.stdout.flush()
    finally:
        os._exit(code)  # not through what the parent process has open


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
