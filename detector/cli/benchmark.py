"""``detector benchmark``: how fast a configuration trains on this machine, and what its memory is enough for."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from detector.cli.argument_types import positive
from detector.cli.errors import run_command
from detector.config_io import load_config_with_origins

EPILOG: Final = """\
Trains for some steps with the data, the network and the loader of a run, and throws the weights away: output_dir is
neither read nor written. Says how many images a second the training makes, how many it would make if it never waited
for data, how many the loader alone reads, what part of the machine's measured rate is reached, how long the start
takes, what memory is used, and how many images of the data's largest shape fit at once (data.images_per_forward).

On a GPU larger and larger batches are tried until the memory is full. On a CPU their size is worked out from steps
with up to four images, and a fifth of the free memory is left alone.

A busy machine gives other figures than an idle one.

examples:
  %(prog)s --config retina_coco
  %(prog)s --config retina_coco --steps 100 --json speed.json data.num_workers=12 precision=bf16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = "Measure how fast a configuration trains on this machine, and how many images fit."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML file, or the name of a shipped one (retina_demo)")
    add(
        "--steps",
        type=positive,
        default=20,
        metavar="N",
        help="steps of each measurement, fewer where they take more than a minute (default: %(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    loaded = load_config_with_origins(args.config, args.overrides)
    # Heavy: not before the configuration is known to be right.
    from detector.engine.benchmark import benchmark, format_result, to_json
    from detector.evaluation.json_files import check_writable, write_atomically

    if args.json is not None:
        check_writable(args.json)
    for note in loaded.notes:
        print(note)
    result = benchmark(
        loaded.config, loaded.origins, num_steps=args.steps, say=lambda line: print(f"{line} …", flush=True)
    )
    print(f"\n{format_result(result)}")
    if args.json is not None:
        content = {"config": args.config, "overrides": args.overrides, **to_json(result)}
        write_atomically(args.json, [json.dumps(content, indent=2), "\n"])
        print(f"figures written to {args.json}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/benchmark.py``."""
    return run_command("benchmark", add_arguments, run, argv)
