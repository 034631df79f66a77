"""The options that all benchmarks have."""

import argparse
from pathlib import Path
from typing import Any


def make_parser(description: str | None, *, repeats: int = 7, warmup: int = 2) -> argparse.ArgumentParser:
    """Return a parser with the common options; a benchmark adds its own.

    Args:
        description: the script's docstring.
        repeats: rounds that count, by default.
        warmup: rounds before them, by default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--repeats", type=_positive, default=repeats, help="rounds that count (default: %(default)s)")
    parser.add_argument("--warmup", type=_positive, default=warmup, help="rounds before them (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no round after so many seconds")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=["wall", "cpu"],
        help="what ratios and rates are of; cpu: processor seconds, for a busy machine without a GPU",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures to this file too")
    return parser


def timing_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what :func:`benchmarking.time_in_turn` takes of the common options."""
    return {"warmup": args.warmup, "repeats": args.repeats, "max_seconds": args.seconds}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return number
