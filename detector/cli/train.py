"""``detector train``: train a detector as a configuration says."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detector.cli.errors import run_command
from detector.config_io import format_config, load_config_with_origins
from detector.engine.stop import StopRequest, starting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = "Train a detector as a configuration says."
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="YAML file, or the name of a shipped one (retina_demo)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue the run in output_dir from its newest checkpoint (or start it, if there is none), or continue "
        "from the given one",
    )
    parser.add_argument(
        "--init-from", type=Path, metavar="CHECKPOINT", help="start a new run from the weights of another run"
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="with --resume: continue also where values or data differ from those that the run had",
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the run that is in output_dir")
    parser.add_argument(
        "--print-config", action="store_true", help="print the configuration with the origin of each value, and exit"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the file, such as seed=1"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
        StoppedEarly: see :func:`detector.engine.train.train`.
    """
    loaded = load_config_with_origins(args.config, args.overrides)
    if args.print_config:
        print(format_config(loaded), end="")
        return 0
    with StopRequest(loaded.config.time_limit_seconds) as stop:
        with starting(stop):
            from detector.engine.train import train  # imports torch: not before the configuration is known to be right
        train(
            loaded.config,
            loaded.origins,
            notes=loaded.notes,
            resume=args.resume,
            init_from=args.init_from,
            overwrite=args.overwrite,
            allow_changes=args.allow_changes,
            stop=stop,
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/train.py``."""
    return run_command("train", add_arguments, run, _with_bare_resume(sys.argv[1:] if argv is None else argv))


def _with_bare_resume(argv: Sequence[str]) -> list[str]:
    """Give ``--resume`` its "auto" where an override follows, which argparse would take for the checkpoint."""
    return [
        "--resume=auto" if argument == "--resume" and "=" in follower and not _exists(follower) else argument
        for argument, follower in zip(argv, [*argv[1:], ""], strict=False)
    ]


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # such as a long list of milestones: no file name
        return False
