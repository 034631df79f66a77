"""What the runs of an ablation gave, read from their folders, and which differences are more than chance."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from detector.lab.ablation_grid import Cell
from detector.lab.ablation_plan import PlannedRun

Verdict: TypeAlias = Literal["ahead", "behind", "tie", "both diverged", "one seed", "missing"]

DIVERGED: Final = "diverged.txt"
"""Written into the folder of a run that diverged, with the message it ended with."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that has come to its end.

    Attributes:
        seed: its seed.
        diverged: whether training broke down; then there are no metrics.
        metrics: the numbers of its evaluation by name: AP, AP50, ..., the validation losses.
        training_seconds: time of its steps, without start-up, evaluation and saving.
        environment: content of its ``environment.json``.
    """

    seed: int
    diverged: bool
    metrics: Mapping[str, float]
    training_seconds: float
    environment: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CellResult:
    """The runs of one cell that have come to their end.

    Attributes:
        cell: which.
        runs: one for each seed that is done.
    """

    cell: Cell
    runs: tuple[RunResult, ...]

    @property
    def num_diverged(self) -> int:
        """Runs that diverged."""
        return sum(run.diverged for run in self.runs)

    def values(self, metric: str) -> list[float]:
        """Return a metric of every run that has it, in the order of seeds."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str = "AP") -> float:
        """Return the mean over seeds; NaN without any."""
        values = self.values(metric)
        return sum(values) / len(values) if values else math.nan

    def spread(self, metric: str = "AP") -> float:
        """Return the largest minus the smallest value over seeds; NaN without any."""
        values = self.values(metric)
        return max(values) - min(values) if values else math.nan


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two cells side by side.

    Attributes:
        first: one.
        second: the other.
        difference: mean AP of the first minus that of the second; NaN where one has none.
        spread: the larger of their two ranges over seeds; NaN likewise.
        verdict: ``ahead`` or ``behind`` (the first of the second) if the difference is larger than the spread, else
            ``tie``; a cell of which a run diverged is behind one of which none did; ``one seed`` where a cell has
            no range to compare with; ``missing`` where one has not been trained.
    """

    first: CellResult
    second: CellResult
    difference: float
    spread: float
    verdict: Verdict


def compare(first: CellResult, second: CellResult) -> Comparison:
    """Compare the mean AP of two cells; a difference within the range of either one's seeds is a tie."""
    difference = first.mean() - second.mean()
    spread = max(first.spread(), second.spread()) if math.isfinite(difference) else math.nan
    return Comparison(first, second, difference, spread, _judge(first, second, difference, spread))


def _judge(first: CellResult, second: CellResult, difference: float, spread: float) -> Verdict:
    if not first.runs or not second.runs:
        return "missing"
    match first.num_diverged > 0, second.num_diverged > 0:
        case True, True:
            return "both diverged"
        case True, False:
            return "behind"
        case False, True:
            return "ahead"
    if min(len(first.runs), len(second.runs)) < 2:
        return "one seed"
    if abs(difference) <= spread:
        return "tie"
    return "ahead" if difference > 0 else "behind"


def read_results(runs: Sequence[PlannedRun]) -> dict[str, CellResult]:
    """Return what is there of each cell, by name, in the order of the grid."""
    cells = {run.cell.name: run.cell for run in runs}
    done: dict[str, list[RunResult]] = {name: [] for name in cells}
    for run in runs:
        if (result := read_run(run)) is not None:
            done[run.cell.name].append(result)
    return {name: CellResult(cell, tuple(done[name])) for name, cell in cells.items()}


def read_run(run: PlannedRun) -> RunResult | None:
    """Return what a run gave; None if it has not come to its end.

    A run is done with the evaluation of its last step, or when it diverged.
    """
    diverged = (run.folder / DIVERGED).exists()
    rows = _read_rows(run.folder / "metrics.jsonl")
    last_step = run.config.schedule.max_steps or 1  # by epochs: the grid evaluates the last step alone
    scores = [row for row in rows if row.get("kind") == "eval" and row.get("step", 0) >= last_step]
    if not diverged and not scores:
        return None
    final = {} if diverged else scores[-1]
    return RunResult(
        seed=run.seed,
        diverged=diverged,
        metrics={
            name: float(value)
            for name, value in final.items()
            if isinstance(value, int | float) and name not in ("step", "kind")
        },
        training_seconds=_training_seconds(rows),
        environment=_read_object(run.folder / "environment.json"),
    )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``; a torn last line of a killed process is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Add up the steps' time: each row has the mean over the steps since the row before."""
    seconds, last_step = 0.0, 0
    for row in rows:
        if row.get("kind") == "train":
            seconds += (row.get("step_seconds") or 0.0) * (row["step"] - last_step)
            last_step = row["step"]
    return seconds
