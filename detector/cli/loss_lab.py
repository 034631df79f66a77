"""``detector loss-lab``: see what the focal loss does, in curves, numbers, a trained detector and an ablation."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from detector.cli.errors import Run, run_command
from detector.cli.loss_lab_ablate import add_ablate_arguments, run_ablate
from detector.cli.loss_lab_figures import (
    add_cdf_arguments,
    add_curves_arguments,
    add_example_arguments,
    run_cdf,
    run_curves,
    run_example,
)
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One part of the laboratory.

    Attributes:
        summary: what it does, in the list of subcommands.
        add_arguments: adds its arguments to a parser.
        run: does the work and returns the exit code.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Run


SUBCOMMANDS: Final = {
    "curves": Subcommand("draw loss and gradient against p_t", add_curves_arguments, run_curves),
    "example": Subcommand(
        "the worked example of easy negatives and hard positives", add_example_arguments, run_example
    ),
    "cdf": Subcommand("Figure 4 of the paper, of a trained detector", add_cdf_arguments, run_cdf),
    "ablate": Subcommand("train a grid of class losses and compare them", add_ablate_arguments, run_ablate),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/loss_lab.py``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in SUBCOMMANDS:
        return run_command("loss-lab", _add_choice, _reject, arguments)
    name = arguments[0]
    subcommand = SUBCOMMANDS[name]

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        program = "python tools/loss_lab.py" if parser.prog == "loss_lab.py" else parser.prog
        parser.set_defaults(command_line=f"{program} {shlex.join(arguments)}")
        parser.prog = f"{parser.prog} {name}"
        subcommand.add_arguments(parser)

    return run_command("loss-lab", add_arguments, subcommand.run, arguments[1:])


def _add_choice(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommands; a line that begins with none of them ends in help or in an error."""
    listing = "\n".join(f"  {name:<8}  {subcommand.summary}" for name, subcommand in SUBCOMMANDS.items())
    parser.description = "The loss laboratory: see what the focal loss does, and why."
    parser.usage = "%(prog)s [-h] COMMAND ..."
    parser.epilog = f"commands:\n{listing}\n\n`%(prog)s COMMAND --help` explains a command."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=tuple(SUBCOMMANDS), metavar="COMMAND", help="one of those below, first")


def _reject(args: argparse.Namespace) -> int:
    raise UserError(f"the command comes first: loss-lab {args.command} ...")
