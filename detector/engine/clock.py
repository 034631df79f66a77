"""Where the time of the steps goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepClock:
    """Measures steps between two log rows: all of their time, and the part that was a wait for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch of steps."""
        self._start = time.perf_counter()
        self._waited = 0.0
        self._num_steps = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens inside as a wait for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside: it is no part of a step."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def count_step(self) -> None:
        """Count a finished step."""
        self._num_steps += 1

    def means(self) -> tuple[float, float]:
        """Return the mean seconds per step since the last restart: the wait for data, and all of the step."""
        num_steps = max(1, self._num_steps)
        return self._waited / num_steps, (time.perf_counter() - self._start) / num_steps
