"""``detector loss-lab curves | example | cdf``: what the focal loss does, in figures and numbers."""

import argparse
import math
from pathlib import Path

from detector.cli.argument_types import alpha, count, fraction, not_negative, positive, probability, split_overrides
from detector.errors import UserError


def add_curves_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``curves`` to ``parser``."""
    parser.description = (
        "Draw the focal loss and the size of its gradient against p_t, the probability given to the right answer."
    )
    add = parser.add_argument
    add(
        "--gammas",
        type=not_negative,
        nargs="+",
        default=[0.0, 0.5, 1.0, 2.0, 5.0],
        metavar="GAMMA",
        help="focusing exponents; 0 is cross-entropy (default: 0 .5 1 2 5)",
    )
    add(
        "--alphas",
        type=alpha,
        nargs="+",
        default=[None],
        metavar="ALPHA",
        help="weights of an object's loss from 0 to 1, or none: a curve for each with each gamma (default: none)",
    )
    add("--output", type=Path, default=Path("loss_curves.png"), metavar="FILE", help="default: %(default)s")


def run_curves(args: argparse.Namespace) -> int:
    """Run ``curves``.

    Raises:
        UserError: if the picture cannot be written.
    """
    from detector.evaluation.json_files import check_writable

    check_writable(args.output)
    from detector.drawing.plots import plot_loss_curves, save_figure
    from detector.lab.curves import loss_curves

    curves = loss_curves(args.gammas, args.alphas)
    try:
        save_figure(plot_loss_curves(curves.p_t, curves.losses, curves.gradients), args.output)
    except ValueError as error:
        raise UserError(f"--output {error}") from error
    print(f"{len(curves.losses)} curves written to {args.output}")
    return 0


def add_example_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``example`` to ``parser``."""
    parser.description = (
        "Work out the tutorial's example with the program's own losses: what many easy negatives and a few hard "
        "positives add to cross-entropy and to the focal loss."
    )
    add = parser.add_argument
    add("--negatives", type=count, default=100_000, metavar="N", help="easy negatives (default: %(default)s)")
    add("--positives", type=count, default=10, metavar="N", help="hard positives (default: %(default)s)")
    add(
        "--negative-p-t",
        type=probability,
        default=0.95,
        metavar="P",
        help='probability of "background" that each negative has (default: %(default)s)',
    )
    add(
        "--positive-p-t",
        type=probability,
        default=0.05,
        metavar="P",
        help='probability of "object" that each positive has (default: %(default)s)',
    )
    add("--gamma", type=not_negative, default=2.0, help="focusing exponent (default: %(default)g)")
    add("--alpha", type=fraction, default=0.25, help="weight of the positives (default: %(default)s)")
    add(
        "--log-base",
        choices=("10", "e"),
        default="10",
        help="of the logarithm: 10 as in the tutorial, e as in the paper; changes no share (default: %(default)s)",
    )


def run_example(args: argparse.Namespace) -> int:
    """Run ``example``."""
    from detector.lab.example import format_example, worked_example

    sides = worked_example(
        num_negatives=args.negatives,
        num_positives=args.positives,
        negative_p_t=args.negative_p_t,
        positive_p_t=args.positive_p_t,
        gamma=args.gamma,
        alpha=args.alpha,
        log_base=10.0 if args.log_base == "10" else math.e,
    )
    print(format_example(sides))
    cross_entropy, focal = (side.positive_share for side in sides)
    print(f"\nthe positives' share of the loss: {cross_entropy:.4f} under cross-entropy, {focal:.4f} under focal loss")
    return 0


def add_cdf_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``cdf`` to ``parser``."""
    parser.description = (
        "Show how the class loss of a trained detector is spread over its anchors: the paper's Figure 4, the p_t of "
        "foreground and background, and their shares of loss and gradient, for several gammas."
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint of a run")
    add("--annotations", type=Path, metavar="JSON", help="COCO annotations in place of data.val.annotations")
    add("--images", type=Path, metavar="DIR", help="their images, in place of data.val.images")
    add("--weights", choices=("ema", "raw"), help="averaged or plain weights; default: averaged if there are any")
    add(
        "--gammas",
        nargs="+",  # as text: overrides that follow the list are taken out of it afterwards
        default=["0", "0.5", "1", "2"],
        metavar="GAMMA",
        help="gammas to compare; that of the run is added (default: 0 .5 1 2)",
    )
    add("--num-images", type=positive, default=100, metavar="N", help="at most so many (default: %(default)s)")
    add(
        "--output",
        type=Path,
        default=Path("loss_profile"),
        metavar="DIR",
        help="folder for loss_cdf.png, p_t.png and loss_profile.json (default: %(default)s)",
    )
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run_cdf(args: argparse.Namespace) -> int:
    """Run ``cdf``.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    words, overrides = split_overrides("--gammas", args.gammas)
    try:
        gammas = [not_negative(word) for word in words]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--gammas: {error}") from error
    if (args.annotations is None) != (args.images is None):
        given, lacking = ("--annotations", "--images") if args.images is None else ("--images", "--annotations")
        raise UserError(f"{given} needs {lacking}: the annotation file and the folder of its images belong together")
    from detector.lab.cdf import format_loss_profile, loss_cdf
    from detector.telemetry import RunConsole

    with RunConsole() as console:
        profile = loss_cdf(
            args.checkpoint,
            annotations=args.annotations,
            images=args.images,
            overrides=[*args.overrides, *overrides],
            weights=args.weights,
            gammas=gammas,
            num_images=args.num_images,
            output=args.output,
            progress=console.progress,
        )
    print(format_loss_profile(profile))
    print(f"figures and numbers written to {args.output}")
    return 0
