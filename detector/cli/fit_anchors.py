"""``detector fit-anchors``: how well a configuration's anchors fit the boxes, and which would fit better."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.cli.argument_types import positive
from detector.cli.errors import run_command
from detector.cli.output_folder import make_output_folder, remove_numbered_pictures
from detector.config_io import load_config

if TYPE_CHECKING:  # heavy: imported when the command runs, not for --help
    from detector.config import Config
    from detector.data.dataset import DetectionDataset
    from detector.inspect.anchor_coverage import AnchorStudy, Coverage
    from detector.inspect.anchor_shapes import AnchorShapes
    from detector.inspect.anchor_suggestion import Suggestion
    from detector.telemetry.console import RunConsole

EPILOG: Final = """\
Boxes are resized as in training and not augmented: to every data.short_side, or with hundreds of thousands of boxes
to one of them in turn. Anchors are assigned to them as in training; the numbers are exact, no sample.

what is written to DIR:
  anchors.png: how much boxes and anchors overlap, and their shapes
  unmatched/: images with boxes that no anchor fits (red), beside the best anchor of each (yellow, dashed)

examples:
  %(prog)s --config retina_demo
  %(prog)s --config retina_coco data.train.path=cells data.train.split=train --output anchors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = "Show how well the anchors of a configuration fit the boxes, and suggest better ones."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML file, or the name of a shipped one (retina_demo)")
    add("--split", choices=("train", "val"), default="train", help="whose boxes (default: %(default)s)")
    add("--output", type=Path, metavar="DIR", help="folder for a figure and pictures; made if missing")
    add("--num-pictures", type=positive, default=12, metavar="N", help="at most so many (default: %(default)s)")
    add("--no-suggest", action="store_true", help="only measure; suggest no anchors")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    config = load_config(args.config, args.overrides)
    from detector.data.opening import open_split
    from detector.inspect.anchor_coverage import build_anchor_study
    from detector.inspect.anchor_report import format_coverage
    from detector.inspect.anchor_shapes import build_shapes
    from detector.telemetry.console import RunConsole

    dataset = open_split(config.data, config.seed, args.split).dataset
    study, shapes = build_anchor_study(config, dataset.table), build_shapes(config.model.anchors)
    if not len(study.training):
        print(f"{dataset.table.path}: there are no boxes to fit anchors to")
        return 0
    if args.output is not None:
        make_output_folder(args.output)
    with RunConsole() as console:
        with console.progress("matching boxes", total=len(study.training)) as advance:
            coverage = study.measure(shapes, advance)
        console.print(format_coverage(coverage, dataset.table, shapes))
        suggestion = None
        if not args.no_suggest:
            console.print("")
            suggestion = suggest(config, dataset, study, coverage, console)
    if args.output is not None:
        write_pictures(args.output, dataset, coverage, suggestion, shapes, args.num_pictures)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/fit_anchors.py``."""
    return run_command("fit-anchors", add_arguments, run, argv)


def suggest(
    config: "Config",
    dataset: "DetectionDataset",
    study: "AnchorStudy",
    coverage: "Coverage",
    console: "RunConsole",
) -> "Suggestion | None":
    """Search for anchors that fit better and print what was found.

    Returns:
        What was found; None if it is not worth a change.
    """
    from detector.inspect.anchor_coverage import build_anchor_study
    from detector.inspect.anchor_fit import make_fit_target
    from detector.inspect.anchor_report import format_more, format_suggestion
    from detector.inspect.anchor_shapes import build_shapes
    from detector.inspect.anchor_suggestion import WELL_COVERED, gains_of_more, make_suggestion
    from detector.inspect.anchor_summary import SUMMARY_BOXES

    current = build_shapes(config.model.anchors)
    target = make_fit_target(study.training, study.grid(current), study.fg_iou_thresh)
    suggestion = make_suggestion(study, target, current, coverage)
    console.print(format_suggestion(suggestion, current, dataset.categories.names))
    best, shapes = (suggestion.after, suggestion.shapes) if suggestion.is_worth_it else (suggestion.before, current)
    if best.reached < WELL_COVERED:
        sample = build_anchor_study(config, dataset.table, SUMMARY_BOXES)
        if more := format_more(gains_of_more(sample, target, shapes), best.reached):
            console.print(f"\n{more}")
    return suggestion if suggestion.is_worth_it else None


def write_pictures(
    folder: Path,
    dataset: "DetectionDataset",
    coverage: "Coverage",
    suggestion: "Suggestion | None",
    shapes: "AnchorShapes",
    max_pictures: int,
) -> None:
    """Write the figure and the pictures of boxes that no anchor fits.

    Raises:
        UserError: a file cannot be written, or an image cannot be read.
    """
    from detector.cli.predictions import save_picture
    from detector.drawing.anchor_plots import plot_anchor_fit
    from detector.drawing.plots import render
    from detector.inspect.misfit_pictures import draw_misfits

    coverages, sides = {"now": coverage}, {"now": shapes.sides()}
    if suggestion is not None:
        coverages["suggested"], sides["suggested"] = suggestion.coverage, suggestion.shapes.sides()
    best_iou = {name: found.matches.best_iou for name, found in coverages.items()}
    boxes = coverage.training.boxes
    figure = plot_anchor_fit(best_iou, coverage.fg_iou_thresh, boxes[:, 2:] - boxes[:, :2], sides)
    save_picture(folder / "anchors.png", render(figure))
    remove_numbered_pictures(folder / "unmatched")
    num_written = 0
    for number, (row, picture) in enumerate(draw_misfits(dataset, coverage, max_pictures), start=1):
        name = Path(dataset.table.file_names[row]).stem
        save_picture(folder / "unmatched" / f"{number:03d}_{name}.jpg", picture)
        num_written = number
    pictures = f" and {num_written} pictures of boxes that no anchor fits" if num_written else ""
    print(f"figure{pictures} written to {folder}")
