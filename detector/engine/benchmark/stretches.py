"""Timed stretches of the train loop: all of it, the steps alone, the loader alone."""

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from detector.data.slot_sampler import PREFETCH_FACTOR
from detector.engine.benchmark.ceilings import synchronize
from detector.engine.clock import StepClock
from detector.engine.run import Run
from detector.structures import Batch

MAX_SECONDS: Final = 60.0
"""No step of a stretch is begun after so long: figures of a few slow steps are as good as those of many fast ones."""

_KEPT_STEPS: Final = 4
"""Steps that are made over and over with the data already there."""

_WARM_UP_STEPS: Final = 2
_WARM_UP_SECONDS: Final = 20.0

Step = tuple[Batch, ...]
"""The micro-batches of one step."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps that were timed together.

    Attributes:
        num_steps: made.
        seconds: of all of them, wall time.
        waited: seconds of it that were a wait for data.
        cpu_seconds: of the processor, all threads of this process; None where it was not looked at.
    """

    num_steps: int
    seconds: float
    waited: float = 0.0
    cpu_seconds: float | None = None

    @property
    def step_seconds(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.num_steps


def first_steps(run: Run, batches: Iterator[Batch]) -> float:
    """Make the steps that do not count, and return the seconds of the very first, its data not counted."""
    seconds: list[float] = []
    while len(seconds) <= _WARM_UP_STEPS and sum(seconds) < _WARM_UP_SECONDS:
        step = _next_step(run, batches)
        synchronize(run.device)
        start = time.perf_counter()
        _make_step(run, step)
        synchronize(run.device)
        seconds.append(time.perf_counter() - start)
    return seconds[0]


def whole_steps(run: Run, batches: Iterator[Batch], num_steps: int) -> Stretch:
    """Do what the train loop does between two log rows."""
    synchronize(run.device)
    clock, start, done = StepClock(), time.perf_counter(), 0
    while done < num_steps and (done == 0 or time.perf_counter() - start < MAX_SECONDS):
        with clock.waiting():
            step = _next_step(run, batches)
        _make_step(run, step)
        clock.count_step()
        done += 1
    synchronize(run.device)
    waited, seconds = clock.means()
    return Stretch(done, seconds * done, waited * done)


def keep_steps(run: Run, batches: Iterator[Batch]) -> list[Step]:
    """Return the batches of the next few steps, on the device and in memory of their own."""
    # Copies, because the loader writes to its memory again as soon as nobody refers to it, and waits for no one else.
    steps = (copy.deepcopy(_next_step(run, batches)) for _ in range(_KEPT_STEPS))
    return [tuple(batch.to(run.device) for batch in step) for step in steps]


def ready_steps(run: Run, steps: Sequence[Step], num_steps: int) -> Stretch:
    """Make steps of batches that are on the device already, over and over."""

    def make(number: int) -> None:
        run.stepper(steps[number % len(steps)])

    make(0)
    synchronize(run.device)
    start, start_cpu, done = time.perf_counter(), time.process_time(), 0
    while done < num_steps and (done == 0 or time.perf_counter() - start < MAX_SECONDS):
        make(done)
        done += 1
    synchronize(run.device)
    return Stretch(done, time.perf_counter() - start, cpu_seconds=time.process_time() - start_cpu)


def loader_alone(run: Run, batches: Iterator[Batch], num_steps: int) -> Stretch:
    """Read the batches of steps as fast as they come, without making any."""
    # What the workers made while nobody read would look like speed: it is read first.
    read_ahead = PREFETCH_FACTOR * run.config.data.num_workers + 1
    for _ in itertools.islice(batches, read_ahead):
        pass
    start, done = time.perf_counter(), 0
    while done < num_steps and (done == 0 or time.perf_counter() - start < MAX_SECONDS):
        _next_step(run, batches)
        done += 1
    seconds = time.perf_counter() - start
    return Stretch(done, seconds, seconds)


def _next_step(run: Run, batches: Iterator[Batch]) -> Step:
    return tuple(itertools.islice(batches, run.num_forwards))


def _make_step(run: Run, step: Step) -> None:
    run.stepper([batch.to(run.device) for batch in step])
    run.state.step += 1
