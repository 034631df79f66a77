"""Runs that are hurt, continued until they are finished, and compared with one that was left alone."""

import contextlib
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from torture_runs import Setup, StartedRun, differences

CHECKPOINTS: Final = Path("run/checkpoints")
DISK_BYTES: Final = 8 * 2**30
"""Of a small disk, in memory: more than a run writes."""


@dataclass
class Tally:
    """What came of one kind of trial.

    Attributes:
        name: of the trial.
        num_processes: of the runs; 0 where there are none.
        num_trials: so many were made.
        num_right: so many went as they must: what happened was said, and the finished run is the one left alone.
        problems: what was wrong, one line each.
    """

    name: str
    num_processes: int = 0
    num_trials: int = 0
    num_right: int = 0
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
    def trial_folder(self, *, on_small_disk: bool = False) -> Iterator[Path]:
        """Give a folder, which is removed if all goes well; in it, if asked for, a small disk for the run's folder."""
        folder = self.root / "trial"
        (folder / "run").mkdir(parents=True)
        with small_disk(folder / "run") if on_small_disk else contextlib.nullcontext():
            yield folder
        shutil.rmtree(folder)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Have a folder lie on a disk of its own, in memory (Linux, as root).

    Raises:
        CalledProcessError: it may not be mounted.
    """
    _mount(folder, f"size={DISK_BYTES}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize_disk(folder: Path, num_bytes: int | None) -> None:
    """Leave so many bytes free on a small disk; None: as many as at first."""
    for is_last in (False, False, True):
        size = DISK_BYTES if num_bytes is None else shutil.disk_usage(folder).used + num_bytes
        try:
            return _mount(folder, f"remount,size={size}")
        except subprocess.CalledProcessError:  # the run has written meanwhile, and the disk holds more than that
            if is_last:
                raise


def may_mount(folder: Path) -> bool:
    """Return whether a folder within this one can be given a disk of its own."""
    place = folder / "disk"
    place.mkdir()
    try:
        with small_disk(place):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        place.rmdir()


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)


class TooLateError(Exception):
    """The run came to its end before it could be hurt."""


Hurt = Callable[[StartedRun, random.Random], str | None]
"""Does something to a run that lives and waits for its end or ends it. Returns what is wrong with how it ended.

Raises:
    TooLateError: nothing was done to it, and it has ended.
"""


def try_to_break(
    reference: Reference,
    name: str,
    hurt: Hurt,
    count: int,
    per_run: int,
    rng: random.Random,
    *,
    on_small_disk: bool = False,
) -> Tally:
    """Hurt runs, continue them until they are finished, and compare them with the one that was left alone.

    Args:
        reference: the run left alone.
        name: of the trial.
        hurt: what is done to a run.
        count: how often.
        per_run: at most so often to one run.
        rng: random moments.
        on_small_disk: whether the run's folder lies on a disk of its own.
    """
    tally = Tally(name, reference.setup.num_processes)
    while tally.num_trials < count:
        with reference.trial_folder(on_small_disk=on_small_disk) as folder:
            num_hurt = 0
            problems: list[str] = []
            while num_hurt < min(per_run, count - tally.num_trials):
                run = StartedRun(reference.setup, folder)
                try:
                    problem = hurt(run, rng)
                except TooLateError:
                    break
                problems += [] if problem is None else [problem]
                num_hurt += 1
                if _is_finished(folder, reference):
                    break
            problems += _continue_to_the_end(reference, folder)
            tally.num_trials += num_hurt
            tally.num_right += 0 if problems else num_hurt
            tally.problems += problems
            if problems:
                print(*problems, sep="\n", flush=True)
                shutil.copytree(folder, reference.root / f"failed-{len(list(reference.root.iterdir()))}")
    return tally


def tell_another_run(reference: Reference, count: int) -> Tally:
    """Train with other seeds to the end: what finds no difference there would find none anywhere."""
    tally = Tally("control: another seed is found to differ", reference.setup.num_processes)
    for seed in range(count):
        with reference.trial_folder() as folder:
            setup = replace(reference.setup, arguments=[*reference.setup.arguments, f"seed={100 + seed}"])
            code = StartedRun(setup, folder).wait()
            found = differences(reference.folder, folder)
            is_right = code == 0 and len(found) == 2  # rows and final state
            tally.num_trials += 1
            tally.num_right += is_right
            tally.problems += [] if is_right else [f"exit code {code}, differences {found}"]
    return tally


def _continue_to_the_end(reference: Reference, folder: Path) -> list[str]:
    """Continue a run, and say what is wrong with how it does and with what comes out."""
    has_checkpoint = any((folder / CHECKPOINTS).glob("step-*.pt"))
    last = StartedRun(reference.setup, folder)
    code, printed = last.wait(), last.printed()
    if code != 0 or "Traceback" in printed:
        return [f"continuing ended with exit code {code}: {printed[-500:]}"]
    expected = "resumed from" if has_checkpoint else "starting from step 0"
    said = [] if expected in printed else [f"continuing does not say {expected!r}: {printed[:500]}"]
    found = differences(reference.folder, folder)
    return said + ([] if found and has_lost_the_best(reference, folder, found) else found)


def has_lost_the_best(reference: Reference, folder: Path, found: list[str]) -> bool:
    """Tell whether a run differs in what it knows as its best alone, as there was no room for that one, which it said.

    The best AP is that of ``best.pt``. Where the best run of all could not be written, another one is the best.
    """
    from detector.engine.checkpoint import load_checkpoint

    best_step = load_checkpoint(reference.folder / CHECKPOINTS / "last.pt")["best"]["step"]
    refused = re.compile(rf"step-{best_step:08d}\.pt: the checkpoint cannot be written|step {best_step} is not saved")
    is_told = refused.search((folder / "output.log").read_text(encoding="utf-8", errors="replace")) is not None
    only_the_best = [line.rpartition(": ")[2] for line in found][1:] == ["best.ap, best.step"]
    return is_told and only_the_best and found[0].endswith("shared rows are the same")


def _is_finished(folder: Path, reference: Reference) -> bool:
    last = sorted(path.name for path in (reference.folder / CHECKPOINTS).glob("step-*.pt"))[-1]
    return (folder / CHECKPOINTS / f"{last}.sha256").exists()
