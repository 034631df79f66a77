"""``detector check-dataset``: find what is wrong with a dataset before a detector learns it."""

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.argument_types import positive
from detector.cli.errors import DONE, USER_ERROR, printable, run_command
from detector.cli.override_words import override
from detector.config import Config, DataConfig
from detector.config_io import find_config, load_config
from detector.errors import UserError

if TYPE_CHECKING:  # heavy: imported when the command runs, not for --help
    from detector.inspect.doctor.finding import Finding
    from detector.inspect.doctor.image_reading import ImageReader
    from detector.inspect.doctor.opening import OpenedSplits
    from detector.inspect.doctor.split import Split

EPILOG = """\
examples:
  %(prog)s --config my_recipe.yaml --html report.html
  %(prog)s --config my_recipe.yaml data.holdout.fraction=0.1 --quick
  %(prog)s --data VOC2007 --split train --split val
  %(prog)s --data train.json --images train/ --fix mended.json

The first check decodes every image; what it finds of the files is kept in the user's
cache folder, so that the next one only looks for files that changed.

--fix changes only what needs no decision: boxes without area, outside of their image or
repeated go, boxes that leave their image are clipped, sizes that are missing are filled
in, annotation ids that are 0 or taken become free ones, and images that cannot be used
are left out. OUT.log has a line for every change. The training dataset goes to OUT.json;
data.val, or a second --split, to OUT.NAME.json. What a COCO file has besides stays in it.
The dataset itself is never touched.

exit codes: 0 no errors (there may be warnings), 2 errors: training would fail or learn
the wrong thing.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = (
        "Check images, boxes and classes of a dataset: the training and the validation part\n"
        "of a configuration, or a dataset on its own. Every finding names file and id, and\n"
        "says what to do."
    )
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--config", metavar="FILE", help="check data.train and data.val (or data.holdout) of this configuration")
    add("--data", type=Path, metavar="PATH", help="check this dataset, a folder or a file, without a configuration")
    add("--format", choices=("auto", "coco", "voc", "yolo", "csv"), help="how --data is written; default: auto")
    add("--split", action="append", metavar="NAME", help="part of --data; given again, the parts are also compared")
    add("--images", type=Path, metavar="DIR", help="folder of the images of --data")
    add("--quick", action="store_true", help="decode no image, only look whether the files are there")
    add("--max-examples", type=positive, default=5, metavar="N", help="examples of each finding; default: 5")
    add("--html", type=Path, metavar="PAGE", help="write the report as one page with pictures and figures")
    add("--json", type=Path, metavar="FILE", help="write the report as JSON")
    add("--fix", type=Path, metavar="OUT.json", help="write a mended copy of the annotations in COCO format; see below")
    add("--quarantine", type=Path, metavar="LIST", help="write a list of the images that cannot be used, with reasons")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if the command line is wrong, or an output cannot be written.
    """
    _check_combination(args)
    config = load_config(args.config, args.overrides) if args.config is not None else None
    from detector.inspect.doctor.checking import check_splits
    from detector.inspect.doctor.image_reading import ImageReader
    from detector.inspect.doctor.report_text import format_report
    from detector.telemetry import RunConsole

    start = time.perf_counter()
    opened = _open(args, config)
    _check_outputs(args, opened)
    sizes = _training_size(config)
    with RunConsole() as console:
        reader = None if args.quick else ImageReader(console.progress)
        splits = _look_at_files(opened.splits, reader)
        findings = [*opened.findings, *(check_splits(splits, **sizes) if splits else ())]
        print(printable(format_report(splits, findings)))
        print(_describe_work(reader, time.perf_counter() - start))
        _write_reports(args, splits, findings, sizes)
        if reader is not None and (args.fix is not None or args.quarantine is not None):
            _mend(args, config, opened, _look_at_files(opened.datasets, reader))
    return USER_ERROR if any(finding.severity == "error" for finding in findings) else DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/check_dataset.py``."""
    return run_command("check-dataset", add_arguments, run, argv)


def _check_combination(args: argparse.Namespace) -> None:
    if (args.config is None) == (args.data is None):
        raise UserError("give either --config FILE or --data PATH")
    bare = [f"--{key}" for key in ("format", "split", "images") if getattr(args, key) is not None]
    if args.config is not None and bare:
        raise UserError(f"{', '.join(bare)}: goes with --data; with --config use data.train.{bare[0][2:]}=...")
    if args.data is not None and args.overrides:
        raise UserError(f"{args.overrides[0]}: values of a configuration go with --config")
    if args.quick and (args.fix is not None or args.quarantine is not None):
        raise UserError("--fix and --quarantine need to look into the images, which --quick does not")


def _open(args: argparse.Namespace, config: Config | None) -> "OpenedSplits":
    from detector.data.formats.reading import DatasetSource
    from detector.inspect.doctor.opening import build_splits, open_bare

    if config is not None:
        return build_splits(config.data, args.max_examples)
    names = list(dict.fromkeys(args.split or [None]))
    sources = [DatasetSource(args.data, args.images, args.format or "auto", name) for name in names]
    return open_bare(sources, args.max_examples)


def _training_size(config: Config | None) -> dict[str, int]:
    """Return the largest size that training resizes images to; the defaults where there is no configuration."""
    fields = DataConfig.model_fields
    short_sides = fields["short_side"].default if config is None else config.data.short_side
    max_side = fields["max_side"].default if config is None else config.data.max_side
    return {"short_side": max(short_sides), "max_side": max_side}


def _check_outputs(args: argparse.Namespace, opened: "OpenedSplits") -> None:
    from detector.inspect.doctor.outputs import check_fix_outputs, check_outputs
    from detector.inspect.doctor.repair_writing import fix_paths

    outputs = [path for path in (args.html, args.json, args.quarantine) if path is not None]
    if args.fix is not None:
        pairs = fix_paths(args.fix, [split.name for split in opened.datasets]).values()
        check_fix_outputs(pairs)
        outputs += [path for pair in pairs for path in pair]
    inputs = [] if args.config is None else [find_config(args.config)]
    check_outputs(outputs, inputs, opened.datasets)


def _look_at_files(splits: "Sequence[Split]", reader: "ImageReader | None") -> "list[Split]":
    """Return the splits with the facts of their files; without a reader only whether they are there."""
    from detector.inspect.doctor.image_reading import look_for_files

    read = look_for_files if reader is None else reader.read
    return [split.with_facts(read(split.content)) for split in splits]


def _describe_work(reader: "ImageReader | None", seconds: float) -> str:
    if reader is None:
        return f"checked in {seconds:.1f} s; no image was decoded"
    cached = f", {reader.num_cached:,} known from an earlier check" if reader.num_cached else ""
    return f"checked in {seconds:.1f} s; {reader.num_decoded:,} images decoded{cached}"


def _write_reports(
    args: argparse.Namespace, splits: "Sequence[Split]", findings: "Sequence[Finding]", sizes: dict[str, int]
) -> None:
    from detector.evaluation.json_files import write_atomically
    from detector.inspect.doctor.report_html import format_page
    from detector.inspect.doctor.report_text import as_json

    if args.html is not None:
        write_atomically(args.html, [format_page(splits, findings, **sizes)])
        print(f"page written to {args.html}")
    if args.json is not None:
        write_atomically(args.json, [json.dumps(as_json(splits, findings), indent=1), "\n"])
        print(f"report written to {args.json}")


def _mend(args: argparse.Namespace, config: Config | None, opened: "OpenedSplits", datasets: "Sequence[Split]") -> None:
    """Write mended copies and the list of images that cannot be used."""
    from detector.evaluation.json_files import write_atomically
    from detector.inspect.doctor.file_checks import unusable_images
    from detector.inspect.doctor.repair import plan_repair
    from detector.inspect.doctor.repair_writing import common_classes, fix_paths, write_repair

    if args.quarantine is not None:
        lines = [f"{path}\t{reason}\n" for split in datasets for path, reason in unusable_images(split)]
        write_atomically(args.quarantine, lines)
        print(f"{len(lines)} images that cannot be used are listed in {args.quarantine}")
    if args.fix is None:
        return
    if opened.findings:
        raise UserError(f"--fix: nothing is written, because {opened.findings[0].where} cannot be read")
    paths = fix_paths(args.fix, [split.name for split in datasets])
    repairs = [(split, plan_repair(split)) for split in common_classes(datasets)]  # all, before any is written
    for split, repair in repairs:
        output, log = paths[split.name]
        write_repair(repair, output, log)
        print(f"{split.name}: mended copy in {output} (changes: {len(repair.log):,}, see {log}); read it with")
        print(f"  {shlex.join(_overrides(config, split, output))}")


def _overrides(config: Config | None, split: "Split", output: Path) -> list[str]:
    """Return the overrides that read a mended copy in place of the dataset."""
    is_val = split.name == "val"
    key, images = "data.val" if is_val else "data.train", split.content.images_dir
    section = None if config is None else config.data.val if is_val else config.data.train
    if section is not None and section.annotations is not None:
        return [override(f"{key}.annotations", output), override(f"{key}.images", images)]
    others = [] if section is None else [f"{key}.format=coco", f"{key}.split=null"]
    return [override(f"{key}.path", output), override(f"{key}.images", images), *others]
