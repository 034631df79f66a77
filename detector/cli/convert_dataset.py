"""``detector convert-dataset``: write a dataset in another format."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.argument_types import not_negative_integer, probability
from detector.cli.errors import printable, run_command
from detector.cli.override_words import override
from detector.errors import UserError

if TYPE_CHECKING:
    from detector.data.formats.conversion import Conversion, ConvertedSplit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Write a dataset in another format, ready to train with, and read it back to see that no image, box or class "
        "was lost. Boxes only: masks and keypoints are not kept."
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder or file of the dataset")
    parser.add_argument("--to", required=True, choices=("coco", "voc", "yolo", "csv"), help="format to write")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--format",
        default="auto",
        choices=("auto", "coco", "voc", "yolo", "csv"),
        help="format of INPUT (default: found out by looking)",
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="split of INPUT to convert, which keeps its name; may be given several times (default: the only one or "
        "all images, as train)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images (default: where they usually are)"
    )
    parser.add_argument(
        "--holdout",
        type=probability,
        metavar="PART",
        help="divide the images in two splits, train and val: part of val",
    )
    parser.add_argument("--seed", type=not_negative_integer, metavar="N", help="decides what is held out (default: 0)")
    parser.add_argument(
        "--group-by",
        type=_regular_expression,
        metavar="REGEX",
        help="with --holdout: images whose file names have the same match, or first group of it, stay together",
    )
    parser.add_argument(
        "--copy-images",
        action="store_true",
        help="copy the images (default: links to them, which cost nothing but need the originals to stay)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace DIR if an earlier conversion made it (refused where it has other files or folders now)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    from detector.data.formats.conversion import Holdout, convert
    from detector.data.formats.reading import DatasetSource

    if args.holdout is None and (args.seed is not None or args.group_by is not None):
        raise UserError("--seed and --group-by say what --holdout holds out: give --holdout too, such as --holdout 0.2")
    conversion = convert(
        DatasetSource(args.input, args.images, args.format),
        args.to,
        args.output,
        splits=args.split,
        holdout=None if args.holdout is None else Holdout(args.holdout, args.seed or 0, args.group_by),
        copy_images=args.copy_images,
        overwrite=args.overwrite,
    )
    print(printable("\n".join(_report(conversion))))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/convert_dataset.py``."""
    return run_command("convert-dataset", add_arguments, run, argv)


def _report(conversion: "Conversion") -> list[str]:
    from detector.data.formats.limits import enumerate_names

    names = conversion.class_names
    lines = [
        f"{conversion.source} -> {conversion.target}: {conversion.folder}, read back and compared",
        f"{len(names)} classes: {enumerate_names(names)}",
        *(f"  {note}" for note in conversion.notes),
    ]
    for split in conversion.splits:
        lines += _describe(split)
    return [*lines, "", "train with it by:", f"  {_overrides(conversion)}"]


def _describe(split: "ConvertedSplit") -> list[str]:
    ignored = f", {split.num_ignored} ignore regions" if split.num_ignored else ""
    empty = f" ({split.num_empty_images} without boxes)" if split.num_empty_images else ""
    counts = f"{split.name}: {split.num_images} images{empty}, {split.num_boxes} boxes{ignored}"
    return [counts, *(f"  {note}" for note in split.notes)]


def _overrides(conversion: "Conversion") -> str:
    """Return what to add to the line of the training."""
    names = [split.name for split in conversion.splits]
    train = next((name for name in names if name.startswith("train")), names[0])
    others = [name for name in names if name != train]
    val = next((name for name in others if name.startswith("val")), others[0] if others else None)
    chosen = {"train": train} if val is None else {"train": train, "val": val}
    words = [
        word
        for key, name in chosen.items()
        for word in (override(f"data.{key}.path", conversion.folder), override(f"data.{key}.split", name))
    ]
    return shlex.join(words if val is not None else [*words, "data.holdout.fraction=0.2"])


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
    return text
