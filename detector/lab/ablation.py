"""The ablation: train a grid of class losses with equal budgets, and write what came of it.

A grid can be interrupted at any moment: what is finished is not trained again, what has begun is continued.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.config import Config
from detector.drawing.plots import plot_ablation, save_figure
from detector.engine.device import resolve_device, resolve_precision
from detector.engine.processes import processes_from_environment
from detector.engine.train import train
from detector.errors import DivergedError, StoppedEarly, UserError
from detector.evaluation.json_files import check_writable, write_atomically
from detector.lab.ablation_plan import PlannedRun, check_same_config
from detector.lab.ablation_report import GridInfo, format_page, summarise, to_json
from detector.lab.ablation_results import DIVERGED, CellResult, read_results, read_run

PAGE, NUMBERS, PICTURE = "ablation.md", "ablation.json", "ablation.png"
"""Files of the grid's folder."""


def run_grid(
    runs: Sequence[PlannedRun], output: Path, *, config_name: str, overrides: Sequence[str], command: str
) -> dict[str, CellResult]:
    """Train what is left of a grid; after each run write its page, numbers and picture.

    A run that diverges is a result. One run follows the other in this process.

    Args:
        runs: all runs of the grid, from :func:`detector.lab.ablation_plan.plan_runs`.
        output: folder of the grid; made if missing.
        config_name: what to call the recipe on the page.
        overrides: what replaces its values, for the page.
        command: the command line that continues the grid.

    Returns:
        The results by cell.

    Raises:
        UserError: if anything that the user gave is wrong, or a run in the folder has another configuration.
        StoppedEarly: if a run was stopped by a signal, with everything saved.
    """
    if processes_from_environment().num_processes > 1:
        raise UserError("ablate: one run follows the other in a single process; start it without torchrun")
    expected = [_resolve_precision(run.config) for run in runs]
    for run, config in zip(runs, expected, strict=True):
        check_same_config(run, config)
    _make_folder(output)
    info = GridInfo(
        config=config_name,
        overrides=tuple(overrides),
        length=_describe_length(runs[0].config),
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        num_runs=len(runs),
        precision=expected[0].precision,
        command=command,
    )
    _say_what_is_there(runs, output)
    try:
        for number, run in enumerate(runs, start=1):
            _train_unless_done(run, f"cell {number}/{len(runs)}: {run.name}")
            results = _write_report(runs, output, info)
    except (StoppedEarly, KeyboardInterrupt) as stop:
        _write_report(runs, output, info)
        num_done = sum(read_run(run) is not None for run in runs)
        message = (
            f"the grid is stopped with {num_done} of {len(runs)} runs done. Continue with the same line: {command}"
        )
        if isinstance(stop, StoppedEarly):
            raise StoppedEarly(message) from stop
        print(message, flush=True)  # between two steps nothing was saved, but what was saved before holds
        raise
    files = ", ".join(str(output / name) for name in (PAGE, NUMBERS, PICTURE))
    print(f"{len(runs)} of {len(runs)} runs are done: {files}")
    print("\n".join(summarise(results)).replace("**", ""))
    return results


def _train_unless_done(run: PlannedRun, header: str) -> None:
    if (before := read_run(run)) is not None:
        print(f"{header}: done before, {'diverged' if before.diverged else _score(before.metrics)}", flush=True)
        return
    print(f"{header}{' (continued)' if _has_begun(run) else ''}", flush=True)
    start = time.perf_counter()
    try:
        train(run.config, run.loaded.origins, notes=run.loaded.notes, resume="auto")
    except DivergedError as error:
        write_atomically(run.folder / DIVERGED, [f"{error}\n"])
    result = read_run(run)
    if result is None:
        raise RuntimeError(f"{run.folder}: the run came to its end without an evaluation of its last step")
    outcome = "diverged, which is a result too" if result.diverged else _score(result.metrics)
    print(f"{header}: {outcome}, {(time.perf_counter() - start) / 60:.1f} min", flush=True)


def _write_report(runs: Sequence[PlannedRun], output: Path, info: GridInfo) -> dict[str, CellResult]:
    results = read_results(runs)
    write_atomically(output / PAGE, [format_page(results, info, picture=PICTURE)])
    write_atomically(output / NUMBERS, [json.dumps(to_json(results, info), indent=1, allow_nan=False), "\n"])
    cells = results.values()
    figure = plot_ablation(
        [result.cell.label for result in cells],
        [result.mean() for result in cells],
        [result.values("AP") for result in cells],
    )
    save_figure(figure, output / PICTURE)
    return results


def _say_what_is_there(runs: Sequence[PlannedRun], output: Path) -> None:
    num_done = sum(read_run(run) is not None for run in runs)
    num_begun = sum(_has_begun(run) for run in runs) - num_done
    if num_done or num_begun > 0:
        print(f"continuing the grid in {output}: {num_done} of {len(runs)} runs are done, {max(0, num_begun)} begun")


def _has_begun(run: PlannedRun) -> bool:
    return (run.folder / "config.yaml").exists()


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: the folder cannot be made: {error.strerror}") from error
    for name in (PAGE, NUMBERS, PICTURE):
        check_writable(output / name)


def _resolve_precision(config: Config) -> Config:
    """Return a configuration as a run folder holds it."""
    precision = resolve_precision(config.precision, resolve_device(config.device))
    return config.model_copy(update={"precision": precision})


def _describe_length(config: Config) -> str:
    schedule = config.schedule
    return f"{schedule.epochs:g} epochs" if schedule.max_steps is None else f"{schedule.max_steps} steps"


def _score(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name} {metrics[name]:.4f}" for name in ("AP", "AP50", "AP75") if name in metrics)
