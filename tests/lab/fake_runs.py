"""Runs of an ablation without training: folders as a training would leave them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.config_io import dump_config
from detector.lab.ablation_grid import FULL_GRID, Cell
from detector.lab.ablation_results import CellResult, RunResult

CELLS: Mapping[str, Cell] = {cell.name: cell for cell in FULL_GRID}
ENVIRONMENT = {
    "version": "1.2",
    "git_commit": "0123456789abcdef",
    "git_changes": "",
    "python": "3.12.1",
    "hardware": "a CPU, 2 threads",
    "packages": {"torch": "2.15.0", "torchvision": "0.30.0"},
}


def write_run(config: Config, ap: float | None) -> None:
    """Write a run folder: with an evaluation of the last step, or without (``ap`` None)."""
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(config.model_copy(update={"precision": "fp32"})), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    last_step = config.schedule.max_steps
    rows: list[dict[str, Any]] = [{"kind": "train", "step": step, "step_seconds": 30.0} for step in (1, last_step)]
    if ap is not None:
        rows.append({"kind": "eval", "step": last_step, "AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1, "loss": None})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def result(name: str, *values: float | None) -> CellResult:
    """Return a cell with an AP for each seed; None where the run diverged."""
    runs = [
        RunResult(
            seed=seed,
            diverged=ap is None,
            metrics={} if ap is None else {"AP": ap, "AP50": ap + 0.25, "AP75": ap - 0.125},
            training_seconds=90.0,
            environment=ENVIRONMENT,
        )
        for seed, ap in enumerate(values)
    ]
    return CellResult(CELLS[name], tuple(runs))


def results(**values: Sequence[float | None]) -> dict[str, CellResult]:
    """Return results by cell; ``__`` in a keyword stands for the dot of a cell's name."""
    return {name: result(name, *aps) for key, aps in values.items() for name in [key.replace("__", ".")]}
