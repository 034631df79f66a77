"""Scoring and post-processing of ours against pycocotools and torchvision, in one process.

    python scripts/benchmark_evaluation.py                                    # 5,000 images, 500,000 detections
    python scripts/benchmark_evaluation.py --images 500 --json evaluation.json

Scoring: from detections of a set of COCO's size (80 classes, 7 objects and 100 detections an image, 2 % crowds, equal
scores) to the 12 numbers and those of each class, conversions included. pycocotools gets what its users give it, a list
of dictionaries that is there already; both sides must come to the same numbers. It takes a minute, and so is timed
once, after a first time. Post-processing: from a network's outputs for 800 x 1088 pixels to detections, in turn with
torchvision's method on the same outputs.
"""

import contextlib
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarking import (
    Figure,
    describe_hardware,
    make_parser,
    peak_process_memory,
    print_figures,
    print_table,
    table_row,
    time_in_turn,
    timing_options,
    write_figures,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection._utils import BoxCoder

from detector.anchors import AnchorGenerator
from detector.engine.device import resolve_device
from detector.evaluation.coco import score
from detector.evaluation.ground_truth import to_coco
from detector.evaluation.results import CocoResults
from detector.evaluation.scorers import resolve_scorer
from detector.postprocess import postprocess
from detector.structures import HeadOutputs

NUM_CLASSES = 80
OBJECTS_PER_IMAGE = 7
DETECTIONS_PER_IMAGE = 100
SIZE = (800, 1088)


def main() -> None:
    parser = make_parser(__doc__, repeats=5, warmup=1)
    parser.add_argument("--images", type=int, default=5000, help="of the set that is scored (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="images post-processed at once (default: %(default)s)")
    parser.set_defaults(seconds=20)
    args = parser.parse_args()
    device = resolve_device(args.device)
    hardware = describe_hardware(device)
    print(hardware)

    ground_truth, results = make_set(args.images)
    entries = list(results.entries())
    scorer = resolve_scorer("auto")
    scores: dict[str, list[float]] = {}

    def ours() -> None:
        scores["ours"] = list(score(ground_truth, results, scorer=scorer).metrics.values())

    def reference() -> None:
        scores["pycocotools"] = by_pycocotools(ground_truth, entries)

    # A small set warms both.
    small_truth, small = make_set(50)
    score(small_truth, small, scorer=scorer)
    by_pycocotools(small_truth, list(small.entries()))
    slow = time_in_turn({"pycocotools": reference}, device=torch.device("cpu"), warmup=1, repeats=1, max_seconds=0)
    fast = time_in_turn({scorer: ours}, device=torch.device("cpu"), **timing_options(args))
    if scores["ours"] != scores["pycocotools"]:
        raise SystemExit(f"the numbers differ: {scores}")
    ratio = slow["pycocotools"].seconds(args.clock).median / fast[scorer].seconds(args.clock).median
    timings = {f"score by {scorer}": fast[scorer], "score by pycocotools": slow["pycocotools"]}
    print_table([table_row(name, timing, clock=args.clock, images=args.images) for name, timing in timings.items()])
    print(f"peak memory of the process {peak_process_memory() / 2**20:.0f} MiB; the 12 numbers are equal")

    calls = post_processing(args.batch, device)
    timings = time_in_turn(calls, device=device, **timing_options(args))
    peer = timings["post-processing, torchvision"]
    print_table(
        [table_row(name, timing, clock=args.clock, peer=peer, images=args.batch) for name, timing in timings.items()]
    )
    speedup = timings["post-processing, ours"].speedup_over(peer, args.clock)
    note = "" if scorer == "hotcoco" else "hotcoco is not installed"
    figures = [
        Figure("evaluation.speedup.hotcoco", ratio if scorer == "hotcoco" else None, note=note),
        Figure("evaluation.speedup.postprocess", speedup.median, speedup.low, speedup.high, unit="x"),
    ]
    print_figures(figures, hardware)
    if args.json:
        details = {"images": args.images, "detections": len(results), "batch": args.batch, "clock": args.clock}
        write_figures(args.json, figures, hardware, details=details)


def make_set(num_images: int) -> tuple[COCO, CocoResults]:
    """Return a random ground truth, and detections of which four in five lie near an object of their class."""
    generator = np.random.default_rng(0)
    num_objects, num_detections = OBJECTS_PER_IMAGE * num_images, DETECTIONS_PER_IMAGE * num_images
    images = generator.integers(1, num_images + 1, num_objects)
    categories = generator.integers(1, NUM_CLASSES + 1, num_objects)
    boxes = np.concatenate(
        (generator.uniform(0, 500, (num_objects, 2)), 4 + 200 * generator.random((num_objects, 2))), 1
    )
    columns = {
        "id": range(1, num_objects + 1),
        "image_id": images.tolist(),
        "category_id": categories.tolist(),
        "bbox": boxes.tolist(),
        "area": (0.6 * boxes[:, 2:].prod(axis=1)).tolist(),
        "iscrowd": (generator.random(num_objects) < 0.02).astype(int).tolist(),
    }
    annotations = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    document = {
        "images": [{"id": number} for number in range(1, num_images + 1)],
        "categories": [{"id": number, "name": str(number)} for number in range(1, NUM_CLASSES + 1)],
        "annotations": annotations,
    }
    rows = generator.integers(0, num_objects, num_detections)
    found = boxes[rows] + generator.normal(0, 8, (num_detections, 4))
    found[:, 2:] = np.abs(found[:, 2:])
    others = generator.integers(1, NUM_CLASSES + 1, num_detections)
    labels = np.where(generator.random(num_detections) < 0.8, categories[rows], others)
    return to_coco(document), CocoResults(images[rows], labels, found, np.round(generator.random(num_detections), 3))


def by_pycocotools(ground_truth: COCO, entries: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(ground_truth, ground_truth.loadRes([dict(entry) for entry in entries]), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


def post_processing(num_images: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Return both sides on outputs of which about 2,000 (anchor, class) pairs an image pass the threshold."""
    generator = torch.Generator().manual_seed(0)
    anchor_generator = AnchorGenerator()
    shapes = anchor_generator.feature_shapes(SIZE)
    counts = [height * width * anchor_generator.num_per_cell for height, width in shapes]
    logits = [torch.randn(num_images, count, NUM_CLASSES, generator=generator) - 6.3 for count in counts]
    deltas = [0.3 * torch.randn(num_images, count, 4, generator=generator) for count in counts]
    outputs = HeadOutputs(tuple(t.to(device) for t in logits), tuple(t.to(device) for t in deltas))
    anchors = anchor_generator(shapes, device)
    sizes = [SIZE] * num_images
    peer = SimpleNamespace(
        box_coder=BoxCoder((1, 1, 1, 1)),
        topk_candidates=1000,
        detections_per_img=100,
        score_thresh=0.05,
        nms_thresh=0.5,
    )
    theirs = {"cls_logits": list(outputs.cls_logits), "bbox_regression": list(outputs.bbox_deltas)}
    level_anchors = [list(anchors.split(counts))] * num_images

    @torch.inference_mode()
    def run_ours() -> object:
        return postprocess(outputs, anchors, sizes, sizes)

    @torch.inference_mode()
    def run_theirs() -> object:
        return TorchvisionRetinaNet.postprocess_detections(peer, theirs, level_anchors, sizes)

    return {"post-processing, ours": run_ours, "post-processing, torchvision": run_theirs}


if __name__ == "__main__":
    main()
