"""``detector export``: write the weights of a checkpoint for other programs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.cli.errors import run_command
from detector.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Write the weights of a checkpoint as safetensors, with class names, ids and configuration as metadata. The "
        "file also serves --init-from, evaluate and predict."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint of a run")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write, NAME.safetensors")
    parser.add_argument("--format", choices=["safetensors"], default="safetensors", help="format of the file")
    parser.add_argument(
        "--weights", choices=["ema", "raw"], help="default: the moving average, if the checkpoint has one"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: the checkpoint is wrong, or the file cannot be written.
    """
    if args.output.suffix != ".safetensors":
        raise UserError(f"--output {args.output}: expected a name that ends with .safetensors")
    from detector.engine.checkpoint_content import load_trained
    from detector.engine.exported import write_exported
    from detector.engine.inference import choose_weights

    content = load_trained(args.checkpoint)
    weights = choose_weights(content, args.weights, args.checkpoint)
    kind = "raw" if content["ema"] is None or args.weights == "raw" else "ema"
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_exported(args.output, content, weights, kind=kind)
    except OSError as error:
        raise UserError(f"--output {args.output}: cannot be written: {error.strerror or error}") from error
    print(f"{args.output}: {len(weights)} tensors ({kind} weights) after step {content['step']}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/export.py``."""
    return run_command("export", add_arguments, run, argv)
