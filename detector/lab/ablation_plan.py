"""The runs of an ablation: one configuration for each cell and seed, equal but for the cell's own keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from detector.config import Config
from detector.config_io import LoadedConfig, flatten_config, load_config, load_config_text, load_config_with_origins
from detector.errors import UserError
from detector.lab.ablation_grid import Cell

_OF_THE_GRID: Final = ("loss.cls", "model.head.prior", "seed", "output_dir", "eval.every", "checkpoint")
"""Keys that the cells and the grid set themselves."""

_MAY_DIFFER: Final = (
    *("output_dir", "log_every", "device", "data.num_workers", "checkpoint.every", "checkpoint.keep"),
    *("eval.every", "eval.batch_size", "eval.num_pictures", "eval.loss_profile_every"),
)
"""Keys that change no number of the table."""

_NEVER_EARLIER: Final = 10**9
"""A cadence beyond any run, where its length follows from the data set: only the last step is evaluated."""

_SAVES_PER_RUN: Final = 4


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run of the grid.

    Attributes:
        cell: its class loss.
        seed: its seed.
        folder: its run folder.
        loaded: its configuration.
    """

    cell: Cell
    seed: int
    folder: Path
    loaded: LoadedConfig

    @property
    def config(self) -> Config:
        """Its configuration."""
        return self.loaded.config

    @property
    def name(self) -> str:
        """Its name on the console."""
        return f"{self.cell.name}, seed {self.seed}"


def plan_runs(
    config: str, overrides: Sequence[str], cells: Sequence[Cell], seeds: Sequence[int], output: Path, steps: int | None
) -> list[PlannedRun]:
    """Return the runs in the order of training: every cell with the first seed, then with the next.

    Every run has the recipe's own values but for the cell's loss and prior, the seed, the length (``steps``) and the
    folder; it is evaluated once, at the end.

    Args:
        config: YAML file, or the name of a shipped one.
        overrides: ``key=value`` each, for all runs alike.
        cells: class losses.
        seeds: seeds of each cell.
        output: folder of the grid; the runs lie in ``runs/CELL/seed-SEED``.
        steps: length of each run; None: the recipe's.

    Raises:
        UserError: if the configuration is wrong, a seed is given twice, or an override is what the grid itself sets.
    """
    if len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds: {' '.join(map(str, seeds))}: a seed is given twice, expected different ones")
    _check_overrides(overrides, steps)
    length = [] if steps is None else [f"schedule.max_steps={steps}"]
    max_steps = load_config(config, [*overrides, *length]).schedule.max_steps
    every = max_steps if isinstance(max_steps, int) else _NEVER_EARLIER
    save_every = max(1, max_steps // _SAVES_PER_RUN) if isinstance(max_steps, int) else "epoch"
    equal = [*overrides, *length, f"eval.every={every}", f"checkpoint.every={save_every}", "checkpoint.keep=1"]
    runs = []
    for seed in seeds:
        for cell in cells:
            folder = output / "runs" / cell.name / f"seed-{seed}"
            loaded = load_config_with_origins(config, [*equal, *cell.overrides(), f"seed={seed}"])
            # Not as an override: YAML would read a folder named 1e3 as a number.
            own = loaded.config.model_copy(update={"output_dir": str(folder)})
            runs.append(PlannedRun(cell, seed, folder, LoadedConfig(own, loaded.origins, loaded.notes)))
    return runs


def check_same_config(run: PlannedRun, expected: Config) -> None:
    """See that what lies in a run's folder was trained with the configuration that is asked for now.

    Args:
        run: which run.
        expected: its configuration with the precision resolved, as a run folder holds it.

    Raises:
        UserError: if it was trained with another one; names each difference.
    """
    path = run.folder / "config.yaml"
    if not path.exists():
        return
    before = flatten_config(load_config_text(path.read_text(encoding="utf-8"), str(path)))
    now = flatten_config(expected)
    changed = [
        f"{key} {before.get(key, '(absent)')}, now {now[key]}"
        for key in now
        if key not in _MAY_DIFFER and before.get(key) != now[key]
    ]
    if changed:
        raise UserError(
            f"{run.folder}: this run of the grid was begun with another configuration: {'; '.join(changed)}. A table "
            "compares equal runs only: give the same values again, choose another --output, or remove that folder"
        )


def _check_overrides(overrides: Sequence[str], steps: int | None) -> None:
    for override in overrides:
        key = override.partition("=")[0]
        if any(key == own or key.startswith(f"{own}.") for own in _OF_THE_GRID):
            raise UserError(
                f"{override}: the grid sets this key itself; overrides are for what all runs share. Choose losses with "
                "--cells, seeds with --seeds, the folder with --output"
            )
        if steps is not None and key in ("schedule.max_steps", "schedule.epochs"):
            raise UserError(f"{override}: the length is given by --steps {steps} already; give one of them")
