"""``detector show-batch``: training batches as training sees them, as pictures."""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.cli.argument_types import not_negative_integer, positive
from detector.cli.errors import run_command
from detector.cli.output_folder import make_output_folder, remove_numbered_pictures
from detector.config_io import load_config_with_origins

if TYPE_CHECKING:  # heavy: imported when the command runs, not for --help
    from detector.config_io import LoadedConfig
    from detector.data.dataset import DetectionDataset
    from detector.structures import Batch

CAPTION_SIZE: Final = 17
"""Font size in pixels."""

EPILOG: Final = """\
The batches are those of a run with this configuration, seed included, from step --step on: the same images, augmented
and resized in the same way, in the same order. With --split val they are those of an evaluation.

what is written to DIR:
  step_NNNNNNNN.jpg: all images of a batch
  step_NNNNNNNN/: each of them at its size or larger
A box has the colour of its class, and behind its name the number of anchors assigned to it, of which the best few are
drawn in green. A box without an anchor is red. Ignore regions and padding are hatched.

examples:
  %(prog)s --config retina_demo --output batches
  %(prog)s --config retina_demo --output batches --step 500 --num-batches 1 data.short_side=[320]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = "Write training batches as training sees them: augmented images, boxes and their anchors."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML file, or the name of a shipped one (retina_demo)")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write to; made if missing")
    add("--split", choices=("train", "val"), default="train", help="whose images (default: %(default)s)")
    add("--num-batches", type=positive, default=2, metavar="N", help="batches (default: %(default)s)")
    add("--step", type=not_negative_integer, default=0, metavar="N", help="the first step (default: %(default)s)")
    add("overrides", nargs="*", metavar="key.sub=value", help="values that replace those of the configuration")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    loaded = load_config_with_origins(args.config, args.overrides)
    from detector.cli.predictions import save_picture
    from detector.data.opening import open_split
    from detector.drawing.contact_sheet import contact_sheet, with_caption
    from detector.engine.matcher import build_matcher
    from detector.inspect.batch_pictures import draw_batch

    split = open_split(loaded.config.data, loaded.config.seed, args.split)
    matcher = build_matcher(loaded.config)
    make_output_folder(args.output)
    for step, batch in islice(batches_of(loaded, split.dataset, args.split, args.step), args.num_batches):
        drawn = draw_batch(batch, *matcher(batch), split)
        name = f"step_{step:08d}"
        print(f"{name}: {len(drawn)} images")
        remove_numbered_pictures(args.output / name)
        for number, image in enumerate(drawn):
            print(f"  {image.name}: {image.facts}")
            path = args.output / name / f"{number:03d}_{Path(image.file_name).stem}.jpg"
            save_picture(path, with_caption(image.picture, [image.name, image.facts], CAPTION_SIZE))
        sheet = contact_sheet([image.picture for image in drawn], [(image.name, image.facts) for image in drawn])
        save_picture(args.output / f"{name}.jpg", sheet)
    print(f"pictures written to {args.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/show_batch.py``."""
    return run_command("show-batch", add_arguments, run, argv)


def batches_of(
    loaded: "LoadedConfig", dataset: "DetectionDataset", split: str, first_step: int
) -> Iterator[tuple[int, "Batch"]]:
    """Yield (step, batch): of training without end, each batch that of all processes and micro-batches together.

    Raises:
        UserError: the batches cannot be built; see :func:`detector.data.loader.build_train_loader`.
    """
    from detector.data.loader import build_eval_loader, build_train_loader
    from detector.data.repeat_factors import build_repeat_factors
    from detector.data.transforms import build_transforms

    config = loaded.config
    # Changes no batch: neither the number of workers nor that of micro-batches plays a part in what is drawn.
    data = config.data.model_copy(update={"num_workers": 0, "images_per_forward": "auto"})
    if split == "val":
        batch_size = config.eval.batch_size or data.batch_size
        loader = build_eval_loader(data, dataset, short_side=config.eval_short_side, batch_size=batch_size)
        yield from islice(enumerate(loader), first_step, None)
        return
    transforms = build_transforms(data.augment, loaded.origins)
    repeats = build_repeat_factors(data, dataset.table)
    loader = build_train_loader(data, dataset, transforms, seed=config.seed, repeats=repeats, start_step=first_step)
    yield from enumerate(loader, start=first_step)
