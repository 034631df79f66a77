"""``detector predict``: detect objects in an image, a folder of images or a video."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.errors import run_command
from detector.errors import UserError

if TYPE_CHECKING:  # heavy: imported when the command runs, not for --help
    from detector.cli.predictions import Detector
    from detector.telemetry.console import RunConsole

EPILOG = """\
what is written to DIR:
  an image or a folder: predictions.json, a list with one object per image, and each image under its own name with the
  boxes drawn; subfolders are included and kept
  a video: predictions.jsonl, one object per frame, and NAME.mp4 with the boxes drawn
Boxes are [x1, y1, x2, y2] in pixels of the image, upright as its EXIF data say. The files hold every detection above
the configuration's eval.score_thresh; --score-thresh chooses only what is drawn.

examples:
  %(prog)s --checkpoint runs/demo/checkpoints/best.pt --input photo.jpg --output out
  %(prog)s --checkpoint best.pt --input holiday/ --output out --score-thresh 0.5 --on-unreadable skip
  %(prog)s --checkpoint best.pt --input traffic.mp4 --output out --device cuda --batch-size 16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to ``parser``."""
    parser.description = "Detect objects in an image, a folder of images or a video, and draw them."
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint of a run")
    add("--input", type=Path, required=True, metavar="PATH", help="an image, a folder of images, or a video")
    add("--output", type=Path, required=True, metavar="DIR", help="folder to write to; made if missing")
    add("--score-thresh", type=_fraction, default=0.3, metavar="S", help="lowest score drawn (default %(default)s)")
    add("--no-pictures", action="store_true", help="write only the detections")
    add("--zoom", type=_positive, default=1, metavar="N", help="enlarge pictures N times before drawing (default 1)")
    add("--batch-size", type=_positive, default=4, metavar="N", help="images at once (default %(default)s)")
    add("--on-unreadable", choices=("stop", "skip"), default="stop", help="an image that cannot be read (default stop)")
    add("--weights", choices=("ema", "raw"), help="averaged or plain weights; default: averaged if there are any")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto: CUDA if there is a GPU")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="default auto: what is fast")


def run(args: argparse.Namespace) -> int:
    """Run the command; see :func:`add_arguments`.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    from detector.cli.inputs import find_images, input_kind

    kind = input_kind(args.input)
    folder = args.input if kind == "folder" else args.input.parent
    names = find_images(folder, without=args.output) if kind == "folder" else [args.input.name]
    if not args.checkpoint.is_file():  # told before torch is loaded and a folder is made
        found = "is a folder" if args.checkpoint.is_dir() else "no such file"
        raise UserError(f"--checkpoint {args.checkpoint}: {found}, expected one such as RUN/checkpoints/best.pt")
    _check_output(args.output, folder, names)

    from detector.engine.inference import load_detector
    from detector.telemetry.console import RunConsole

    detector = load_detector(args.checkpoint, device=args.device, precision=args.precision, weights=args.weights)
    with RunConsole() as console:
        if kind == "video":
            predict_video(detector, args.input, args, console)
        else:
            predict_images(detector, folder, names, args, console)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/predict.py``."""
    return run_command("predict", add_arguments, run, argv)


def predict_images(
    detector: "Detector", folder: Path, names: list[str], args: argparse.Namespace, console: "RunConsole"
) -> None:
    """Write ``predictions.json`` and the pictures of some images.

    Args:
        detector: what detects.
        folder: that the names are relative to.
        names: image files.
        args: the command's arguments.
        console: where progress and skipped images are shown.

    Raises:
        UserError: if an image cannot be read (with ``skip``: none can), or an output cannot be written.
    """
    from detector.cli.inputs import read_images
    from detector.cli.predictions import detect_frames, detection_records, draw_frame, save_picture, to_json
    from detector.evaluation.json_files import write_atomically

    counts = {"images": 0, "detections": 0, "skipped": 0}

    def skip(message: str) -> None:
        counts["skipped"] += 1
        console.warn(f"{message}; skipped")

    def chunks() -> Iterator[str]:
        frames = read_images(folder, names, skip if args.on_unreadable == "skip" else None)
        with console.progress("predicting", total=len(names)) as advance:
            for frame, found in detect_frames(detector, frames, args.batch_size):
                records = detection_records(found, detector.categories)
                yield "[\n" if counts["images"] == 0 else ",\n"
                yield to_json({"file": frame.name}, frame, records)
                if not args.no_pictures:
                    picture = draw_frame(frame, found, detector.categories, args.score_thresh, args.zoom)
                    save_picture(args.output / frame.name, picture)
                counts["images"] += 1
                counts["detections"] += len(records)
                advance(1)
        if counts["images"] == 0:
            raise UserError(f"--input {folder}: none of its {len(names)} images can be read")
        yield "\n]\n"

    path = args.output / "predictions.json"
    write_atomically(path, chunks())
    console.print(f"{counts['detections']} detections in {counts['images']} images: {path}")
    if counts["skipped"]:
        console.warn(f"{counts['skipped']} of {len(names)} images could not be read and were skipped")
    if not args.no_pictures:
        console.print(f"pictures with scores of {args.score_thresh:g} and more: {args.output}")


def predict_video(detector: "Detector", path: Path, args: argparse.Namespace, console: "RunConsole") -> None:
    """Write ``predictions.jsonl`` and ``NAME.mp4`` of a video.

    Args:
        detector: what detects.
        path: the video.
        args: the command's arguments.
        console: where progress is shown.

    Raises:
        UserError: if the video cannot be read, or an output cannot be written.
    """
    from detector.cli.inputs import open_video, read_frames
    from detector.cli.predictions import detect_frames, detection_records, draw_frame, to_json, video_file
    from detector.evaluation.json_files import write_atomically

    counts = {"frames": 0, "detections": 0}
    drawn = args.output / f"{path.stem}.mp4"

    def chunks() -> Iterator[str]:
        with (
            open_video(path) as video,
            video_file(drawn, video.fps) as target,
            console.progress("predicting", total=video.num_frames) as advance,
        ):
            for frame, found in detect_frames(detector, read_frames(video), args.batch_size):
                records = detection_records(found, detector.categories)
                yield to_json({"file": frame.name, "frame": frame.index}, frame, records) + "\n"
                if not args.no_pictures:
                    target.add(draw_frame(frame, found, detector.categories, args.score_thresh, args.zoom))
                counts["frames"] += 1
                counts["detections"] += len(records)
                advance(1)
            if counts["frames"] < video.num_frames:
                console.warn(f"{path}: {counts['frames']} of {video.num_frames} frames could be decoded")

    lines = args.output / "predictions.jsonl"
    write_atomically(lines, chunks())
    console.print(f"{counts['detections']} detections in {counts['frames']} frames: {lines}")
    if not args.no_pictures:
        console.print(f"video with scores of {args.score_thresh:g} and more: {drawn}")


def _check_output(output: Path, folder: Path, names: list[str]) -> None:
    """Make the output folder, and see that no picture would replace an input.

    Raises:
        UserError: if it would, or the folder cannot be made or written to.
    """
    from detector.evaluation.json_files import check_writable

    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output}: is a file, expected a folder")
    if output.resolve() == folder.resolve():
        raise UserError(f"--output {output}: is the folder of the input, whose images would be replaced; give another")
    inputs = {(folder / name).resolve() for name in names}
    for name in names:
        if (output / name).resolve() in inputs:
            raise UserError(f"--output {output}: {output / name} is one of the inputs and would be replaced")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: the folder cannot be made: {error.strerror}") from error
    check_writable(output / "predictions.json")


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {text}")
    return value
