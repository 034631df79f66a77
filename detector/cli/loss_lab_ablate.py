"""``detector loss-lab ablate``: train a grid of class losses and compare them."""

import argparse
from pathlib import Path
from typing import Final

from detector.cli.argument_types import positive, split_overrides
from detector.errors import UserError

EPILOG: Final = """\
examples:
  %(prog)s --steps 400
  %(prog)s --cells ce_pi.01 fl_g2_a.25 --seeds 0 1 2
  %(prog)s --config my.yaml --full --output runs/paper_grid data.num_workers=4

The same line continues a grid that was interrupted. ablation.md in the output folder has the table
so far, ablation.json the numbers, ablation.png the picture. The cells (* in the default grid):
"""


def add_ablate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ablate`` to ``parser``."""
    from detector.lab.ablation_grid import DEFAULT_GRID, FULL_GRID

    parser.description = (
        "Train the same recipe with one class loss after the other, each with the same budget, and\n"
        "write a table in the form of the paper's Tables 1a, 1b and 1d."
    )
    cells = "\n".join(f"  {cell.name:<12} {'*' if cell in DEFAULT_GRID else ' '} {cell.label}" for cell in FULL_GRID)
    parser.epilog = EPILOG + cells
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--config",
        default="retina_demo",
        metavar="FILE",
        help="YAML file, or the name of a shipped one (default: %(default)s)",
    )
    add(
        "--output",
        type=Path,
        default=Path("runs/ablation"),
        metavar="DIR",
        help="folder of the grid (default: %(default)s)",
    )
    add("--steps", type=positive, metavar="N", help="steps of each run (default: the recipe's)")
    # As text: overrides that follow the list are taken out of it afterwards.
    add("--seeds", nargs="+", default=["0", "1"], metavar="SEED", help="seeds of each cell (default: 0 1)")
    add("--cells", nargs="+", metavar="NAME", help="only these cells (default: 9 cells)")
    add("--full", action="store_true", help="the paper's whole grid, 16 cells, in place of the 9")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the recipe in all runs")


def run_ablate(args: argparse.Namespace) -> int:
    """Run ``ablate``.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    from detector.lab.ablation_grid import find_cells
    from detector.lab.ablation_plan import plan_runs

    names, from_cells = (None, []) if args.cells is None else split_overrides("--cells", args.cells)
    seeds, from_seeds = split_overrides("--seeds", args.seeds)
    overrides = [*args.overrides, *from_cells, *from_seeds]
    if names is not None and args.full:
        raise UserError("--cells names cells of the whole grid, --full takes all of them: give one of the two")
    cells = find_cells(names, full=args.full)
    runs = plan_runs(args.config, overrides, cells, _seeds(seeds), args.output, args.steps)

    from detector.lab.ablation import run_grid  # imports torch: not before all configurations are known to be right

    run_grid(runs, args.output, config_name=args.config, overrides=overrides, command=args.command_line)
    return 0


def _seeds(words: list[str]) -> list[int]:
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise UserError(f"--seeds: expected whole numbers from 0 on, found {word!r}")
    return [int(word) for word in words]
