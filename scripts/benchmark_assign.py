"""Assignment of anchors to ground truth: ours against the loop over images of torchvision's RetinaNet.

    python scripts/benchmark_assign.py                    # 16 images x 200k anchors x 20 boxes, growth; under 2 minutes
    python scripts/benchmark_assign.py --crowd            # growth up to 500 boxes an image too
    python scripts/benchmark_assign.py --clock cpu --json assign.json

Ours makes everything that the losses read: labels, matched rows and boxes, and the count of objects without an anchor.
torchvision's is what its RetinaNet does before its losses: IoU and matcher, image by image. All backends that run on
the device are measured; the figures are those of the default one.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from benchmarking import (
    Clock,
    Figure,
    Timing,
    describe_hardware,
    make_parser,
    peak_memory,
    print_figures,
    print_table,
    random_boxes,
    table_row,
    time_in_turn,
    timing_options,
    write_figures,
)
from benchmarking.timing import spread_of
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from detector.anchors import AnchorGenerator
from detector.assign import Backend, assign_anchors
from detector.engine.device import resolve_device
from detector.ops.triton_support import triton_hindrance

NUM_IMAGES = 16

SIZES = {50: (384, 704), 100: (576, 928), 200: (800, 1344), 400: (1152, 1856)}
"""Thousands of anchors: padded image size that has about so many."""

PEER = "torchvision"


def main() -> None:
    parser = make_parser(__doc__, repeats=5, warmup=1)
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="of a batch (default: %(default)s)")
    parser.add_argument("--crowd", action="store_true", help="measure 500 boxes an image too, without torchvision")
    args = parser.parse_args()
    device = resolve_device(args.device)
    hardware = describe_hardware(device)
    print(hardware)

    calls = make_calls(args.images, 200, 20, device, backends(device))
    timings = time_in_turn(calls, device=device, **timing_options(args))
    print(f"\n{args.images} images x {len(make_anchors(200, device)):,} anchors x 20 boxes")
    print_table(rows_of(timings, calls, args.clock, args.images, device))

    speedup = timings["auto"].speedup_over(timings[PEER], args.clock)
    figures = [Figure("assign.speedup", speedup.median, speedup.low, speedup.high)]
    more, details = measure_growth(args, device)
    figures += more
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware, details=details)


def backends(device: torch.device) -> list[Backend]:
    """Return the default backend and, to compare, the others that make sense on a device."""
    if device.type == "cpu":
        return ["auto", "eager"]
    return ["auto", "eager"] if triton_hindrance(device) else ["auto", "eager", "triton"]


def make_anchors(thousands: int, device: torch.device) -> Tensor:
    generator = AnchorGenerator()
    return generator(generator.feature_shapes(SIZES[thousands]), device)


def make_calls(
    num_images: int,
    thousands: int,
    num_boxes: int,
    device: torch.device,
    names: Sequence[Backend],
    *,
    peer: bool = True,
) -> dict[str, Callable[[], object]]:
    """Return what is timed on one batch, by name."""
    anchors = make_anchors(thousands, device)
    boxes = random_boxes(num_images, num_boxes, SIZES[thousands]).to(device)
    labels = torch.randint(0, 80, (num_images, num_boxes)).to(device)
    mask = torch.ones(num_images, num_boxes, dtype=torch.bool, device=device)
    regions = torch.zeros_like(mask)
    calls: dict[str, Callable[[], object]] = {
        name: partial(assign_anchors, anchors, boxes, labels, mask, regions, backend=name) for name in names
    }
    if peer:
        matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        calls[PEER] = lambda: [matcher(box_iou(image, anchors)) for image in boxes]
    return calls


def rows_of(
    timings: dict[str, Timing],
    calls: dict[str, Callable[[], object]],
    clock: Clock,
    num_images: int,
    device: torch.device,
) -> list[dict[str, str]]:
    return [
        table_row(
            name,
            timing,
            clock=clock,
            peer=timings[PEER],
            images=num_images,
            peak_bytes=peak_memory(calls[name], device),
        )
        for name, timing in timings.items()
    ]


def measure_growth(args: argparse.Namespace, device: torch.device) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Measure more anchors and more boxes; all sizes take turns, so that the machine's moods hit them alike."""
    sizes = [(50, 20), (100, 20), (200, 20), (400, 20), (200, 10), (200, 100)] + ([(200, 500)] if args.crowd else [])
    calls: dict[str, Callable[[], object]] = {}
    for thousands, num_boxes in sizes:
        for name, call in make_calls(args.images, thousands, num_boxes, device, ["auto"], peer=num_boxes < 500).items():
            calls[f"{name}, {thousands}k anchors x {num_boxes} boxes"] = call
    options = timing_options(args) | {"repeats": min(3, args.repeats)}
    timings = time_in_turn(calls, device=device, **options)
    seconds = {name: timing.seconds(args.clock).median for name, timing in timings.items()}
    print("\ngrowth")
    print_table([{"what": name, f"{args.clock} ms": f"{1000 * value:.4g}"} for name, value in seconds.items()])

    def growths(name: str, less: tuple[int, int], more: tuple[int, int]) -> list[float]:
        few, many = (timings[f"{name}, {size[0]}k anchors x {size[1]} boxes"] for size in (less, more))
        return many.ratios_to(few, args.clock)

    anchors = len(make_anchors(400, device)) / len(make_anchors(100, device))
    boxes, peer_boxes = (growths(name, (200, 10), (200, 100)) for name in ("auto", PEER))
    spreads = {
        "anchors": spread_of([growth / anchors for growth in growths("auto", (100, 20), (400, 20))]),
        "boxes": spread_of(boxes),
        "boxes_over_torchvision": spread_of([ours / theirs for ours, theirs in zip(boxes, peer_boxes, strict=True)]),
    }
    figures = [
        Figure(f"assign.growth.{name}", spread.median, spread.low, spread.high) for name, spread in spreads.items()
    ]
    return figures, [{"what": name, "seconds": value} for name, value in seconds.items()]


if __name__ == "__main__":
    main()
