"""Steps that wait for data, and what in the loader they wait for."""

from collections import deque
from typing import Final

from detector.data.stages import StageSeconds
from detector.telemetry.diagnosis_checks import ROWS_IN_A_ROW, Finding
from detector.telemetry.rows import TrainRow

DATA_WAIT: Final = "data_wait"
"""Name of the warning: the only one that depends on how busy the machine is."""

WAIT_SHARE: Final = 0.2
"""Share of a step spent waiting for data from which it is told: less than a quarter more speed is to be had below."""

DISK_SHARE: Final = 0.5
"""Share of the loader's time spent reading from which the files are what is slow; from memory they take 3 %."""

_REMEDIES: Final = {
    "decode": "most of it decodes: set data.cache=ram, or store the images no larger than data.max_side needs",
    "augment": "most of it augments: choose cheaper transforms for data.augment",
    "resize": "most of it resizes: lower data.short_side and data.max_side",
}


class InputWatch:
    """Looks whether the steps of a run wait for data.

    Args:
        num_workers: loader processes of this training process.
        num_cores: processor cores that each training process of this machine has.
    """

    def __init__(self, num_workers: int, num_cores: int) -> None:
        self._num_workers = num_workers
        self._num_cores = num_cores
        self._window: deque[tuple[float, StageSeconds]] = deque(maxlen=ROWS_IN_A_ROW)

    def observe(self, row: TrainRow, seconds: StageSeconds) -> list[Finding]:
        """Take in a row and return what is wrong, if steps have waited too long in all of the latest ones.

        Args:
            row: of a logged step.
            seconds: that the loader's processes spent on the batches since the row before.
        """
        share = row.data_seconds / row.step_seconds if row.step_seconds > 0 else 0.0
        self._window.append((share, seconds))
        shares = [share for share, _ in self._window]
        if len(shares) < ROWS_IN_A_ROW or not all(share >= WAIT_SHARE for share in shares):  # NaN is no wait
            return []
        of_stage = {name: sum(getattr(spent, name) for _, spent in self._window) for name in StageSeconds._fields}
        total = sum(of_stage.values())
        if not total > 0:
            return []
        parts = ", ".join(f"{name} {100 * spent / total:.0f} %" for name, spent in of_stage.items())
        return [
            Finding(
                DATA_WAIT,
                f"{100 * sum(shares) / len(shares):.0f} % of the last steps is waiting for data. Of the loader's time: "
                f"{parts}. {self._remedy(of_stage, total)}",
            )
        ]

    def _remedy(self, of_stage: dict[str, float], total: float) -> str:
        if of_stage["read"] >= DISK_SHARE * total:
            return "The disk is too slow: put the images on a local or faster one, or set data.cache=ram"
        largest = _REMEDIES[max(_REMEDIES, key=lambda name: of_stage[name])]
        if self._num_workers < self._num_cores:
            return (
                f"There are too few loader processes: raise data.num_workers (now {self._num_workers}; each training "
                f"process has {self._num_cores} cores). Beside that, {largest}"
            )
        return f"All cores are busy ({self._num_workers} loader processes, {self._num_cores} cores); {largest}"
