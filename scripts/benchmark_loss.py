"""The focal loss, forward and backward: ours on every backend, the plain form with autograd, and torchvision's.

    python scripts/benchmark_loss.py                                  # 2 x 100,000 x 80, fp32 and bf16
    python scripts/benchmark_loss.py --anchors 200000 --images 16 --device cuda --json loss.json

In one process, one of each in turn, from the same logits. torchvision's loss gets the one-hot targets that it needs
ready made, so its time does not hold them. All gradients are left in the logits' ``grad``. On a CPU most of what
torchvision's form takes in fp32 is the kernel clearing new pages for its ten temporaries; --keep-freed-memory shows
both without that, as in a process that trains.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from benchmarking import (
    Ceilings,
    Figure,
    describe_hardware,
    make_parser,
    measure_ceilings,
    peak_memory,
    print_figures,
    print_table,
    table_row,
    time_in_turn,
    timing_options,
    write_figures,
)
from benchmarking.timing import Spread, spread_of
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from detector.engine.device import resolve_device
from detector.engine.heap import keep_freed_memory
from detector.losses import FocalSums
from detector.losses.focal_backend import FocalBackend, triton_hindrance
from detector.losses.sigmoid_focal import sigmoid_focal_sums, sigmoid_focal_sums_by_autograd
from detector.structures import BACKGROUND

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT = "ours (default)"
PEER = "torchvision"
PRIOR_LOGIT = -4.6
"""Where the scores of a fresh RetinaNet are, p = 0.01; they spread by 1 around it here."""

ANCHORS_PER_BOX = 20
"""About what the paper's anchors give an object of COCO."""


@dataclass(frozen=True, slots=True)
class Case:
    """Logits [N, R, K], a leaf, and labels [N, R]."""

    logits: Tensor
    labels: Tensor

    @property
    def num_bytes(self) -> int:
        """Of the logits."""
        return self.logits.numel() * self.logits.element_size()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--anchors", type=int, default=100_000, help="of an image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument(
        "--keep-freed-memory", action="store_true", help="as a process that trains on a CPU does, for all forms alike"
    )
    args = parser.parse_args()
    device = resolve_device(args.device)
    if args.keep_freed_memory and not keep_freed_memory():
        parser.error("--keep-freed-memory: the C library cannot be told to")
    hardware = describe_hardware(device)
    ceilings = measure_ceilings(device, ())
    print(hardware, ceilings, f"{args.images} x {args.anchors} x {args.classes}", sep="\n")
    figures: list[Figure] = []
    for precision in args.precisions:
        figures += _compare(args, precision, device, ceilings)
    figures += _growth(args, device)
    print_figures(figures, hardware)
    if args.json:
        write_figures(args.json, figures, hardware)


def _compare(args: argparse.Namespace, precision: str, device: torch.device, ceilings: Ceilings) -> list[Figure]:
    """Time all forms in one precision, print their table and return the figures."""
    case = make_case(args.images, args.anchors, args.classes, dtype=DTYPES[precision], device=device)
    calls = {DEFAULT: _ours(case, "auto"), "plain with autograd": _plain(case), PEER: _torchvision(case)}
    if triton_hindrance(device) is None:
        calls["ours (eager)"] = _ours(case, "eager")
    timings = time_in_turn(calls, device=device, **timing_options(args))
    floor = 2 * case.num_bytes  # the logits are read, the gradient is written
    peaks = {name: peak_of(case, call, device) for name, call in calls.items()}
    print(f"\n{precision}")
    print_table(
        [
            table_row(
                name,
                timing,
                clock=args.clock,
                peer=timings[PEER],
                num_bytes=floor,
                copy_ceiling=ceilings.copy,
                peak_bytes=peaks[name],
            )
            for name, timing in timings.items()
        ]
    )
    extra = {name: peak / case.num_bytes for name, peak in peaks.items()}
    speedup = timings[DEFAULT].speedup_over(timings[PEER], args.clock)
    over_floor = timings[DEFAULT].seconds(args.clock).median * ceilings.copy / floor
    figures = [_figure(f"loss.speedup.{precision}", speedup)]
    if precision == args.precisions[0]:
        note = f"{precision}; plain form {extra['plain with autograd']:.1f}, torchvision {extra[PEER]:.1f}"
        figures.append(Figure("loss.of_memory_floor", over_floor, note=precision))
        figures.append(Figure("loss.extra_memory", extra[DEFAULT], note=note))
    else:
        figures.append(Figure(f"loss.of_memory_floor.{precision}", over_floor, unit="x"))
        figures.append(Figure(f"loss.extra_memory.{precision}", extra[DEFAULT], unit="x"))
    return figures


def _growth(args: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Time ours with more anchors, and ours and torchvision's with more boxes; return the figures."""
    make = partial(make_case, args.images, num_classes=args.classes, dtype=torch.float32, device=device)
    quarter, ten, hundred = (
        make(num_anchors=num_anchors, num_boxes=num_boxes)
        for num_anchors, num_boxes in ((args.anchors // 4, 10), (args.anchors, 10), (args.anchors, 100))
    )
    calls = {
        "quarter of the anchors": _ours(quarter, "auto"),
        "10 boxes": _ours(ten, "auto"),
        "100 boxes": _ours(hundred, "auto"),
        "10 boxes, torchvision": _torchvision(ten),
        "100 boxes, torchvision": _torchvision(hundred),
    }
    timings = time_in_turn(calls, device=device, **timing_options(args))
    print("\ngrowth, fp32")
    print_table([table_row(name, timing, clock=args.clock) for name, timing in timings.items()])

    def growths(less: str, more: str) -> list[float]:
        return timings[more].ratios_to(timings[less], args.clock)

    anchors = growths("quarter of the anchors", "10 boxes")
    boxes = growths("10 boxes", "100 boxes")
    theirs = growths("10 boxes, torchvision", "100 boxes, torchvision")
    over_theirs = [ours / their for ours, their in zip(boxes, theirs, strict=True)]
    return [
        _figure("loss.growth.anchors", spread_of([growth / 4 for growth in anchors])),
        _figure("loss.growth.boxes", spread_of(boxes)),
        _figure("loss.growth.boxes_over_torchvision", spread_of(over_theirs), note="both are near 1"),
    ]


def make_case(
    num_images: int,
    num_anchors: int,
    num_classes: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    num_boxes: int = 10,
) -> Case:
    """Return logits as a fresh network gives them, and labels with ANCHORS_PER_BOX anchors for each box."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_images, num_anchors, num_classes, generator=generator) + PRIOR_LOGIT
    is_object = torch.rand(num_images, num_anchors, generator=generator) < num_boxes * ANCHORS_PER_BOX / num_anchors
    classes = torch.randint(0, num_classes, (num_images, num_anchors), generator=generator)
    labels = torch.where(is_object, classes, BACKGROUND)
    return Case(logits.to(device, dtype).requires_grad_(), labels.to(device))


def peak_of(case: Case, call: Callable[[], None], device: torch.device) -> int:
    """Return the most bytes that a call holds at once beside the logits."""
    case.logits.grad = None  # or its release within the call would make room
    return peak_memory(call, device)


def _ours(case: Case, backend: FocalBackend) -> Callable[[], None]:
    return _by_sums(case, lambda logits, labels: sigmoid_focal_sums(logits, labels, backend=backend))


def _plain(case: Case) -> Callable[[], None]:
    return _by_sums(case, sigmoid_focal_sums_by_autograd)


def _by_sums(case: Case, loss: Callable[[Sequence[Tensor], Sequence[Tensor]], FocalSums]) -> Callable[[], None]:
    def call() -> None:
        case.logits.grad = None
        sums = loss([case.logits], [case.labels])
        (sums.foreground.sum() + sums.background.sum()).backward()

    return call


def _torchvision(case: Case) -> Callable[[], None]:
    is_class = case.labels.unsqueeze(-1) == torch.arange(case.logits.shape[-1], device=case.labels.device)
    targets = is_class.to(case.logits.dtype)

    def call() -> None:
        case.logits.grad = None
        torchvision_focal_loss(case.logits, targets, reduction="sum").backward()

    return call


def _figure(key: str, spread: Spread, note: str = "") -> Figure:
    return Figure(key, spread.median, spread.low, spread.high, note=note)


if __name__ == "__main__":
    main()
