"""The console command ``detector``: one command a file, imported only when it is asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from detector import __version__
from detector.cli.errors import exit_code

COMMANDS: Final = {
    "train": "train a detector as a configuration says",
    "evaluate": "score a checkpoint, or a file of detections, with the COCO metrics",
    "predict": "detect objects in pictures, folders and videos",
    "make-demo": "generate the demo data set",
    "convert-dataset": "write a dataset in another format",
    "check-dataset": "find what is wrong with a dataset, by file and id, before it is learnt",
    "fit-anchors": "show how well the anchors fit the boxes, and suggest better ones",
    "benchmark": "measure how fast a configuration trains on this machine, and how many images fit",
    "show-batch": "write training batches as training sees them, as pictures",
    "compare-runs": "say from which step on two runs differ, and in what",
    "export": "write the weights of a checkpoint for other programs",
    "loss-lab": "see what the focal loss does: curves, numbers, figures, an ablation",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``detector COMMAND ...``.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code, see :mod:`detector.cli.errors`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        module = importlib.import_module(f"detector.cli.{arguments[0].replace('-', '_')}")
        code: int = module.main(arguments[1:])
        return code
    return exit_code(lambda: _answer(arguments))


def _answer(arguments: list[str]) -> int:
    """Answer a line that names no command: help, version, or what is wrong with it."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="detector",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Train, evaluate and use a RetinaNet detector.",
        epilog=f"commands:\n{listing}\n\n`detector COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"detector {__version__}")
    _, rest = parser.parse_known_args(arguments)
    found = f"unknown command {rest[0]!r}" if rest else "no command given"
    parser.error(f"{found}; the commands are {', '.join(COMMANDS)}")


if __name__ == "__main__":
    raise SystemExit(main())
