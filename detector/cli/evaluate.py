"""``detector evaluate``: score a checkpoint, or a file of detections, with the COCO metrics."""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.cli.errors import run_command
from detector.errors import UserError

if TYPE_CHECKING:  # heavy: imported when the command runs, not for --help
    from detector.evaluation.coco import CocoScores
    from detector.evaluation.results import CocoResults

EPILOG = """\
examples:
  %(prog)s --checkpoint runs/demo/checkpoints/best.pt
  %(prog)s --checkpoint best.pt --annotations val.json --images val/ --metrics-out metrics.json
  %(prog)s --checkpoint best.pt eval.short_side=640 device=cpu
  %(prog)s --annotations val.json --from-detections detections.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Score a checkpoint on its validation images, or on others, with the twelve COCO\n"
        "numbers as pycocotools gives them; or score an existing file of detections in\n"
        "COCO's results format."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="FILE", help="checkpoint of a run")
    add("--config", type=Path, metavar="FILE", help="configuration in place of the one in the checkpoint")
    add("--annotations", type=Path, metavar="JSON", help="COCO annotations in place of data.val.annotations")
    add("--images", type=Path, metavar="DIR", help="their images, in place of data.val.images")
    add("--weights", choices=("ema", "raw"), help="averaged or plain weights; default: averaged if there are any")
    add("--from-detections", type=Path, metavar="JSON", help="score this results file; needs only --annotations")
    add("--detections-out", type=Path, metavar="JSON", help="write the detections in COCO's results format")
    add("--metrics-out", type=Path, metavar="JSON", help="write the twelve numbers as one object")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    _check_combination(args)
    _check_outputs(args)
    if args.from_detections is not None:
        scores, results = _score_file(args.annotations, args.from_detections)
    else:
        scores, results = _score_checkpoint(args)
    if args.detections_out is not None:
        from detector.evaluation.detections_file import write_detections

        write_detections(args.detections_out, results)
        print(f"{len(results)} detections written to {args.detections_out}")
    if args.metrics_out is not None:
        from detector.evaluation.json_files import write_atomically

        write_atomically(args.metrics_out, [json.dumps(scores.metrics, allow_nan=False), "\n"])
        print(f"metrics written to {args.metrics_out}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/evaluate.py``."""
    return run_command("evaluate", add_arguments, run, argv)


def _check_combination(args: argparse.Namespace) -> None:
    if args.from_detections is not None:
        if args.annotations is None:
            raise UserError("--from-detections needs --annotations, the COCO file to score on")
        useless = [
            f"--{key}" for key in ("checkpoint", "config", "images", "weights") if getattr(args, key) is not None
        ]
        if useless or args.overrides:
            raise UserError(
                "--from-detections scores a file without running a model, so it goes only with --annotations and the "
                f"outputs; found also {', '.join([*useless, *args.overrides])}"
            )
        return
    if args.checkpoint is None:
        raise UserError("give --checkpoint FILE, or --annotations JSON --from-detections JSON")
    if (args.annotations is None) != (args.images is None):
        given, lacking = ("--annotations", "--images") if args.images is None else ("--images", "--annotations")
        raise UserError(f"{given} needs {lacking}: the annotation file and the folder of its images belong together")


def _check_outputs(args: argparse.Namespace) -> None:
    """See before the work starts that its results can be written, and over no input."""
    from detector.evaluation.json_files import check_writable

    taken = {
        path.resolve(): option
        for option in ("checkpoint", "config", "annotations", "from_detections")
        if (path := getattr(args, option)) is not None
    }
    for option in ("detections_out", "metrics_out"):
        path = getattr(args, option)
        if path is None:
            continue
        check_writable(path)
        other = taken.setdefault(path.resolve(), option)
        if other != option and not (path.exists() and not path.is_file()):  # /dev/null may be given twice
            raise UserError(f"{path}: given both as {_dashed(other)} and as {_dashed(option)}")


def _score_file(annotations: Path, detections: Path) -> "tuple[CocoScores, CocoResults]":
    from detector.evaluation.coco import score
    from detector.evaluation.detections_file import read_detections
    from detector.evaluation.ground_truth import load_ground_truth
    from detector.evaluation.table import format_scores

    start = time.perf_counter()
    ground_truth = load_ground_truth(annotations)
    results = read_detections(detections, ground_truth, annotations)
    scores = score(ground_truth, results, annotations=annotations)
    print(format_scores(scores))
    seconds = time.perf_counter() - start
    print(f"{len(results)} detections on {len(ground_truth.imgs)} images scored in {seconds:.1f} s")
    return scores, results


def _score_checkpoint(args: argparse.Namespace) -> "tuple[CocoScores, CocoResults]":
    if not args.checkpoint.is_file():
        found = "is a folder" if args.checkpoint.is_dir() else "no such file"
        raise UserError(f"{args.checkpoint}: {found}, expected a checkpoint such as RUN/checkpoints/best.pt")
    from detector.engine.evaluate import evaluate_checkpoint
    from detector.evaluation.table import format_scores
    from detector.telemetry import RunConsole

    with RunConsole() as console:
        result = evaluate_checkpoint(
            args.checkpoint,
            config=args.config,
            overrides=args.overrides,
            annotations=args.annotations,
            images=args.images,
            weights=args.weights,
            progress=console.progress,
        )
    print(format_scores(result.scores))
    print("validation losses: " + ", ".join(f"{name} {value:.4f}" for name, value in result.losses.items()))
    print(_format_split(result.split))
    print(f"{len(result.results)} detections on {result.num_images} images in {result.seconds:.1f} s")
    return result.scores, result.results


def _format_split(split: dict[str, Any]) -> str:
    """Say where the class loss comes from; numbers without anything to divide by are left out."""
    sides = []
    for name, share, p_name, p in (
        ("foreground", split["fg_share"], "p of their class", split["p_foreground"]),
        ("background", 1 - split["fg_share"], "highest p", split["p_background"]),
    ):
        num_anchors = sum(split[f"level_num_{name}"])
        mean_p = f" (mean {p_name} {p:.4f})" if num_anchors else ""
        sides.append(f"{'' if math.isnan(share) else f'{share:.1%} from '}{num_anchors:,} {name} anchors{mean_p}")
    unmatched = f"; {split['num_unmatched_gt']} of {split['num_gt']} objects have no anchor"
    return f"class loss: {' and '.join(sides)}{unmatched if split['num_unmatched_gt'] else ''}"


def _dashed(option: str) -> str:
    return "--" + option.replace("_", "-")
