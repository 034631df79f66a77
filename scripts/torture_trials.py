"""What is done to the runs of ``torture.py``, and what must come of it."""

import contextlib
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torture_runs import Setup, StartedRun, children_of, differences

STOPPED_EARLY: Final = 75
CHECKPOINTS: Final = Path("run/checkpoints")


@dataclass
class Tally:
    """What came of one kind of trial.

    Attributes:
        name: of the trial.
        num_trials: so many were made.
        num_exact: after so many, the finished run was the one that had been left alone.
        problems: what was wrong, one line each.
    """

    name: str
    num_trials: int = 0
    num_exact: int = 0
    problems: list[str] = field(default_factory=list)


class Reference:
    """A run that is left alone, which the others are compared with.

    Args:
        setup: of all these runs.
        folder: for this run and, beside it, the others.
    """

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self.root = folder
        self.folder = folder / "reference"
        self.folder.mkdir(parents=True)
        start = time.monotonic()
        run = StartedRun(setup, self.folder)
        if run.wait() != 0:
            raise RuntimeError(f"the run that is left alone has failed: {run.printed()[-2000:]}")
        self.seconds = time.monotonic() - start
        self.checkpoint_bytes = (self.folder / CHECKPOINTS / "last.pt").stat().st_size

    @contextlib.contextmanager
    def trial_folder(self) -> Iterator[Path]:
        """Give an empty folder, which is removed if all goes well."""
        folder = self.root / "trial"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)


Hurt = Callable[[StartedRun, random.Random], str | None]
"""Does something to a run that lives and waits for its end or ends it. Returns what is wrong with how it ended."""


def try_to_break(reference: Reference, name: str, hurt: Hurt, count: int, per_run: int, rng: random.Random) -> Tally:
    """Hurt runs, continue them until they are finished, and compare them with the one that was left alone.

    Args:
        reference: the run left alone.
        name: of the trial.
        hurt: what is done to a run.
        count: how often.
        per_run: at most so often to one run.
        rng: random moments.
    """
    tally = Tally(f"{name}, {reference.setup.num_processes} process(es)")
    while tally.num_trials < count:
        with reference.trial_folder() as folder:
            num_hurt = 0
            problems: list[str] = []
            while num_hurt < min(per_run, count - tally.num_trials):
                run = StartedRun(reference.setup, folder)
                if (problem := hurt(run, rng)) is not None:
                    problems.append(problem)
                num_hurt += 1
                if _is_finished(folder, reference):
                    break
            last = StartedRun(reference.setup, folder)
            if (code := last.wait()) != 0:
                problems.append(f"continuing ended with exit code {code}: {last.printed()[-500:]}")
            else:
                problems += differences(reference.folder, folder)
            tally.num_trials += num_hurt
            tally.num_exact += 0 if problems else num_hurt
            tally.problems += problems
            if problems:
                shutil.copytree(folder, reference.root / f"failed-{len(list(reference.root.iterdir()))}")
    return tally


def kill_at_random(reference: Reference) -> Hurt:
    """Kill one process or all, at any moment from the start on."""

    def hurt(run: StartedRun, rng: random.Random) -> None:
        _wait_while_running(run, rng.uniform(0, 0.7) * reference.seconds)
        run.kill(None if rng.random() < 0.5 else [rng.randrange(len(run.pids))])

    return hurt


def kill_while_saving(reference: Reference) -> Hurt:
    """Kill all processes while a checkpoint is written."""

    def hurt(run: StartedRun, rng: random.Random) -> None:
        num_saved = rng.randrange(3)
        is_written = False
        while run.is_running() and num_saved >= 0:
            before, is_written = is_written, any((run.folder / CHECKPOINTS).glob("*.tmp"))
            num_saved -= is_written and not before
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        run.kill()

    return hurt


def ask_to_stop(reference: Reference) -> Hurt:
    """Send SIGTERM, SIGINT or SIGUSR1 to all processes or one: the run must save, and end with 75."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        while run.is_running() and "step 1/" not in run.printed():  # before, a signal has its usual effect
            time.sleep(0.01)
        _wait_while_running(run, rng.uniform(0, 0.6) * reference.seconds)
        if not run.is_running():
            return None
        number = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
        run.send(number, None if rng.random() < 0.5 else [rng.randrange(len(run.pids))])
        code, printed = run.wait(), run.printed()
        if code == 0 or (code == STOPPED_EARLY and "--resume" in printed):
            return None  # 0: it was about to end anyway
        return f"{number.name}: exit code {code}, printed {printed[-300:]!r}"

    return hurt


def kill_a_worker(reference: Reference) -> Hurt:
    """Kill a process that loads images: the run goes on, or ends and says so."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        _wait_while_running(run, rng.uniform(0.1, 0.6) * reference.seconds)
        workers = [child for pid in run.pids for child in children_of(pid)]
        while run.is_running() and not workers:
            time.sleep(0.01)
            workers = [child for pid in run.pids for child in children_of(pid)]
        if not workers:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        code, printed = run.wait(), run.printed()
        if code == 0 or ("worker" in printed and "Traceback" not in printed):
            return None
        return f"a killed worker: exit code {code}, printed {printed[-300:]!r}"

    return hurt


def fill_the_disk(reference: Reference) -> Hurt:
    """Leave no room for a checkpoint for a while: the run says so, goes on, and saves again later."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        num_checkpoints = rng.randrange(1, 4)
        while run.is_running() and run.printed().count("saved ") < num_checkpoints:
            time.sleep(0.005)
        limit = int(rng.uniform(0.05, 0.95) * reference.checkpoint_bytes)
        for pid in run.pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        while run.is_running() and "cannot be written" not in run.printed():
            time.sleep(0.005)
        for pid in run.pids:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        code, printed = run.wait(), run.printed()
        if code == 0 and "cannot be written" in printed:
            return None
        return f"no room for a checkpoint: exit code {code}, printed {printed[-300:]!r}"

    return hurt


def damage_the_newest(reference: Reference) -> Hurt:
    """Kill, cut or flip the newest checkpoint, and continue: the damage is named and the one before is used."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        folder = run.folder / CHECKPOINTS
        while run.is_running() and len(list(folder.glob("step-*.pt"))) < 2:
            time.sleep(0.005)
        _wait_while_running(run, rng.uniform(0, 0.3) * reference.seconds)
        run.kill()
        newest = max(folder.glob("step-*.pt"))
        _damage(newest, rng)
        again = StartedRun(reference.setup, run.folder)
        while again.is_running() and "step" not in again.printed():
            time.sleep(0.01)
        _wait_while_running(again, rng.uniform(0, 0.3) * reference.seconds)
        again.kill()
        printed = again.printed()
        return None if newest.name in printed else f"{newest.name} was damaged, which is not said: {printed[-300:]!r}"

    return hurt


def _damage(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if rng.random() < 0.5:
            file.truncate(rng.randrange(size))
            return
        file.seek(rng.randrange(size))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ (1 << rng.randrange(8))]))


def _wait_while_running(run: StartedRun, seconds: float) -> None:
    end = time.monotonic() + seconds
    while run.is_running() and time.monotonic() < end:
        time.sleep(0.002)


def _is_finished(folder: Path, reference: Reference) -> bool:
    last = sorted(path.name for path in (reference.folder / CHECKPOINTS).glob("step-*.pt"))[-1]
    return (folder / CHECKPOINTS / f"{last}.sha256").exists()
