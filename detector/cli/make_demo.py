"""``detector make-demo``: generate the demo data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from detector.cli.errors import run_command

DEMO_CONFIG: Final = "retina_demo"
"""The shipped recipe whose anchors and thresholds the printed anchor ratio is measured with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Generate a small detection data set in COCO format, the same bytes for the same seed. Does nothing where the "
        "folder already holds that very set."
    )
    parser.add_argument("--output", type=Path, default=Path("data/demo"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--num-train", type=int, metavar="N", help="images to train on (default: 800)")
    parser.add_argument("--num-val", type=int, metavar="N", help="held-out images (default: 150)")
    parser.add_argument("--overwrite", action="store_true", help="replace another demo set that the folder holds")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    from detector.data.demo_set import DEFAULT_NUM_TRAIN, DEFAULT_NUM_VAL, format_report, make_demo_set

    report = make_demo_set(
        args.output,
        seed=args.seed,
        num_train=DEFAULT_NUM_TRAIN if args.num_train is None else args.num_train,
        num_val=DEFAULT_NUM_VAL if args.num_val is None else args.num_val,
        overwrite=args.overwrite,
    )
    print(format_report(report))
    print(f"train, anchors of {DEMO_CONFIG}: {_count_anchors(args.output / 'annotations' / 'train.json')}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/make_demo.py``."""
    return run_command("make-demo", add_arguments, run, argv)


def _count_anchors(annotations: Path) -> object:
    """Return the foreground and background anchors of a split under the demo's recipe."""
    from functools import partial

    from detector.anchors import build_anchor_generator
    from detector.assign import assign_anchors
    from detector.config_io import find_config, load_config
    from detector.data.annotations import read_annotations
    from detector.data.padding import Padding
    from detector.inspect.anchor_ratio import count_anchors

    config = load_config(find_config(DEMO_CONFIG))
    return count_anchors(
        read_annotations(annotations),
        build_anchor_generator(config.model.anchors),
        partial(
            assign_anchors,
            fg_iou_thresh=config.assign.fg_iou_thresh,
            bg_iou_thresh=config.assign.bg_iou_thresh,
            allow_low_quality_matches=config.assign.allow_low_quality_matches,
            ignore_ioa_thresh=config.assign.ignore_ioa_thresh,
        ),
        short_side=max(config.data.short_side),
        max_side=config.data.max_side,
        padding=Padding(config.data.pad_multiple),
    )
