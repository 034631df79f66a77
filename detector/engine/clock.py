"""Where the time of the steps goes."""

import time


class StepClock:
    """Measures steps between two log rows: all of the time, and the part that was a wait for data."""

    def __init__(self) -> None:
        """Start."""
        self.restart()

    def restart(self) -> None:
        """Begin a new stretch of steps."""
        self._start = time.perf_counter()
        self._waited = 0.0
        self._num_steps = 0

    def add_wait(self, seconds: float) -> None:
        """Count time spent on waiting for a step's data."""
        self._waited += seconds

    def count_step(self) -> None:
        """Count a finished step."""
        self._num_steps += 1

    def means(self) -> tuple[float, float]:
        """Return the mean seconds per step since the last restart: data, all."""
        num_steps = max(1, self._num_steps)
        return self._waited / num_steps, (time.perf_counter() - self._start) / num_steps
