"""``detector compare-runs``: from which step on two runs differ, and in what."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.cli.errors import printable, run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Compare two runs: configuration, environment, rows of metrics.jsonl (without times) and the last checkpoint's "
        "state, to the last bit. Exit code 0: the same; 1: they differ; 2: one of them is no run."
    )
    parser.add_argument("first", type=Path, metavar="A", help="run folder")
    parser.add_argument("second", type=Path, metavar="B", help="another one")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: a folder is no run, or its files cannot be read.
    """
    from detector.engine.compare_runs import compare_runs

    comparison = compare_runs(args.first, args.second)
    print(printable(comparison.text))
    return 0 if comparison.is_same else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/compare_runs.py``."""
    return run_command("compare-runs", add_arguments, run, argv)
