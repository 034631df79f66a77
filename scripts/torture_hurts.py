"""What is done to the runs of ``torture.py``, and what they must say."""

import contextlib
import os
import random
import re
import resource
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from torture_runs import StartedRun, children_of
from torture_trials import CHECKPOINTS, Hurt, Reference, TooLateError, resize_disk

USER_ERROR: Final = 2
STOPPED_EARLY: Final = 75
STEPS_WITHOUT_WORKERS: Final = 6
"""At the end of a run: soon after they begin the last images are loaded, and nobody misses a worker any more."""

_STEP: Final = re.compile(r"^step +(\d+)", re.MULTILINE)
_NO_ROOM: Final = re.compile(r"step[- ]\d+(?:\.pt: the checkpoint cannot be written| is not saved)")
_STOPPED: Final = re.compile(r"stopped by (SIG\w+|another process) (after step \d+; .*--resume|before the first step)")


def kill_at_random(reference: Reference) -> Hurt:
    """Kill one process or all, at any moment from the start on."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        _wait_while_running(run, rng.uniform(0, 0.7) * reference.seconds)
        if not run.is_running():
            return _too_late(run)
        run.kill(None if rng.random() < 0.5 else [rng.randrange(len(run.pids))])
        return None

    return hurt


def kill_while_saving(reference: Reference) -> Hurt:
    """Kill all processes while a checkpoint is written."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        num_saved = rng.randrange(3)
        is_written = False
        while run.is_running() and num_saved >= 0:
            before, is_written = is_written, any((run.folder / CHECKPOINTS).glob("*.tmp"))
            num_saved -= is_written and not before
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        if not run.is_running():
            return _too_late(run)
        run.kill()
        return None

    return hurt


def ask_to_stop(reference: Reference, signals: Sequence[signal.Signals]) -> Hurt:
    """Send one of these signals to all processes or one, at any moment: the run must save, and end with 75."""

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        while run.is_running() and not run.has_begun():
            time.sleep(0.001)
        _wait_while_running(run, rng.uniform(0, 0.6) * reference.seconds)
        if not run.is_running():
            return _too_late(run)
        number = rng.choice(signals)
        run.send(number, None if rng.random() < 0.5 else [rng.randrange(len(run.pids))])
        code, printed = run.wait(), run.printed()
        if code == 0 or (STOPPED_EARLY in run.codes.values() and _STOPPED.search(printed)):
            return None  # 0: it was about to end anyway
        return f"{number.name}: exit codes {[*run.codes.values()]}, printed {printed[-300:]!r}"

    return hurt


def kill_a_worker(reference: Reference) -> Hurt:
    """Kill a process that loads images: the run says so, replaces it and goes on; later it is asked to stop."""

    last_step = reference.setup.num_steps - STEPS_WITHOUT_WORKERS

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        while run.is_running() and _last_step(run) == 0:
            time.sleep(0.01)
        workers = [child for pid in run.pids for child in children_of(pid)]  # of training: evaluations come later
        moment = rng.uniform(_last_step(run), last_step)
        while run.is_running() and _last_step(run) < moment - 1:
            time.sleep(0.002)
        if not workers or _last_step(run) > last_step:
            return _too_late(run)
        victim = rng.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        story = f"a loader process (pid {victim}) was killed by SIGKILL"
        while run.is_running() and story not in run.printed():
            time.sleep(0.01)
        _wait_while_running(run, rng.uniform(0, 0.2) * reference.seconds)
        run.send(signal.SIGTERM)
        code, printed = run.wait(), run.printed()
        if code in (0, STOPPED_EARLY) and story in printed and "Traceback" not in printed:
            return None
        return f"worker {victim} was killed: exit code {code}, printed {printed[-300:]!r}"

    return hurt


def fill_the_disk(reference: Reference) -> Hurt:
    """Leave no room for a checkpoint for a while: the run says so, goes on, and saves again when there is room.

    If it was the last checkpoint, the run must end with an error and leave the ones before it intact.
    """

    def hurt(run: StartedRun, rng: random.Random) -> str | None:
        num_saved = rng.randrange(1, 3)
        while run.is_running() and run.printed().count("saved ") < num_saved:
            time.sleep(0.005)
        if not run.is_running():
            return _too_late(run)
        room = int(rng.uniform(0.05, 0.95) * reference.checkpoint_bytes)
        if os.path.ismount(run.folder / "run"):
            leave_room: Callable[[int | None], None] = partial(resize_disk, run.folder / "run")
            room = rng.choice([0, room])  # 0: none for rows and events either
        else:
            leave_room = partial(_limit_files, run)
        leave_room(room)
        while run.is_running() and not _NO_ROOM.search(run.printed()):
            time.sleep(0.005)
        leave_room(None)
        num_saved = run.printed().count("saved ")
        while run.is_running() and run.printed().count("saved ") == num_saved:
            time.sleep(0.005)
        run.send(signal.SIGTERM)
        code, printed = run.wait(), run.printed()
        told = _NO_ROOM.findall(printed)
        if not told:
            return _too_late(run)
        if code in (0, STOPPED_EARLY) and printed.count("saved ") > num_saved:
            return None
        if code == USER_ERROR and str(reference.setup.num_steps) in told[-1]:
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
        newest, before = sorted(folder.glob("step-*.pt"))[:-3:-1]
        _damage(newest, rng)
        again = StartedRun(reference.setup, run.folder)
        while again.is_running() and "resumed from" not in again.printed():
            time.sleep(0.01)
        _wait_while_running(again, rng.uniform(0, 0.3) * reference.seconds)
        again.kill()
        printed = again.printed()
        if (
            f"{newest.name}: the checkpoint is damaged" in printed
            and f"resumed from {CHECKPOINTS}/{before.name}" in printed
        ):
            return None
        return f"{newest.name} was damaged, which is not said: {printed[:600]!r}"

    return hurt


def _last_step(run: StartedRun) -> int:
    """Return the last step that a run has printed; 0 = none."""
    steps = _STEP.findall(run.printed())
    return int(steps[-1]) if steps else 0


def _too_late(run: StartedRun) -> str:
    """Return what is wrong with a run that ended before anything was done to it.

    Raises:
        TooLateError: nothing is.
    """
    if (code := run.wait()) == 0:
        raise TooLateError
    return f"left alone it ended with exit code {code}, printed {run.printed()[-300:]!r}"


def _limit_files(run: StartedRun, num_bytes: int | None) -> None:
    """Let the processes of a run write no file beyond a size; None: files of any size."""
    limit = resource.RLIM_INFINITY if num_bytes is None else num_bytes
    for pid in run.pids:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _damage(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        if rng.random() < 0.5:
            file.truncate(rng.randrange(1, size))
            return
        file.seek(rng.randrange(size))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ (1 << rng.randrange(8))]))


def _wait_while_running(run: StartedRun, seconds: float) -> None:
    end = time.monotonic() + seconds
    while run.is_running() and time.monotonic() < end:
        time.sleep(0.002)
