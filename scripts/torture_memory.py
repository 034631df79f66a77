"""Whether the memory of a training run grows with its steps."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torture_runs import Setup, StartedRun, children_of


@dataclass(frozen=True)
class MemoryGrowth:
    """Growth of what belongs to processes alone, over the second half of a run.

    Attributes:
        name: of the processes.
        num_samples: how often it was looked at.
        megabytes: at the end.
        growth: MB per 1,000 steps, the slope of a line through the samples.
        noise: standard error of that slope.
    """

    name: str
    num_samples: int
    megabytes: float
    growth: float
    noise: float

    @property
    def is_growing(self) -> bool:
        """Whether it grows by more than 1 MB in 1,000 steps, and by more than chance explains."""
        return self.growth > 1.0 and self.growth > 3 * self.noise


def measure_growth(setup: Setup, folder: Path) -> list[MemoryGrowth]:
    """Run a training and look at the memory of its main process and its workers about once a second.

    Raises:
        RuntimeError: the run failed.
    """
    folder.mkdir(parents=True)
    run = StartedRun(setup, folder)
    samples: list[tuple[int, float, float]] = []
    while run.is_running():
        time.sleep(1.0)
        step = _step(folder / "run/metrics.jsonl")
        main, workers = _private_megabytes(run.pids), _private_megabytes(_workers(run))
        if step and main and workers:
            samples.append((step, main, workers))
    if run.wait() != 0:
        raise RuntimeError(run.printed()[-2000:])
    rows = np.array([sample for sample in samples if sample[0] > samples[-1][0] / 2])
    return [_fit(name, rows[:, 0], rows[:, column]) for name, column in (("main process", 1), ("data workers", 2))]


def _fit(name: str, steps: np.ndarray, megabytes: np.ndarray) -> MemoryGrowth:
    x = (steps - steps.mean()) / 1000
    slope = float((x * megabytes).sum() / (x * x).sum())
    rest = megabytes - megabytes.mean() - slope * x
    noise = float(np.sqrt((rest**2).sum() / max(1, len(x) - 2) / (x * x).sum()))
    return MemoryGrowth(name, len(x), float(megabytes[-1]), slope, noise)


def _step(metrics: Path) -> int:
    """Return the last step that was logged."""
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except ValueError:  # a line that is being written
            continue
    return 0


def _workers(run: StartedRun) -> list[int]:
    return [child for pid in run.pids for child in children_of(pid)]


def _private_megabytes(pids: list[int]) -> float:
    """Return what processes hold for themselves, in MB; 0 if one of them has ended."""
    total = 0.0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0.0
        fields = dict(line.split(":", 1) for line in lines if line.startswith("Private_"))
        total += sum(float(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty")) / 1024
    return total
